/* The yardstick: what the same job costs in plain C. Not a product.

   floor PORT UPSTREAM_PORT CA_FILE: asked over UDP on 127.0.0.1:PORT, asks over one TLS
   connection to 127.0.0.1:UPSTREAM_PORT. The certificate is verified, for the name NAME.
   An answer is found by its ID and its question, and goes to who asked that. The table
   forgets the oldest when it is full. No padding, no time-outs, no reconnecting: when the
   connection ends, so does the program. */

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define NAME "dot.test.example"
#define HEADER 12
#define BATCH 64		/* datagrams a turn: they share one TLS record */
#define PENDING 65536		/* entries; a power of two */
#define QUESTION 280		/* a name of 255 bytes, type and class, rounded up */

typedef unsigned char byte;
struct entry {
	struct entry *next;	/* in the same bucket */
	struct sockaddr_in client;
	uint32_t hash;
	uint16_t length;	/* of the question; 0 when free */
	byte id[2];
	byte question[QUESTION];
};

static struct entry entries[PENDING];	/* a ring: the oldest is taken first */
static struct entry *buckets[PENDING];
static uint32_t newest;
static byte outgoing[1 << 20], incoming[1 << 17];
static size_t out_begin, out_end, in_end;

static int die(const char *what)
{
	perror(what);
	exit(1);
}

/* Return the length of the one question, or 0. */
static size_t question_length(const byte *message, size_t size)
{
	size_t at = HEADER;

	if (size < HEADER + 5 || message[4] || message[5] != 1)
		return 0;
	while (at < size && message[at]) {
		if (message[at] > 63)
			return 0;
		at += 1 + message[at];
	}
	at += 5;
	return at <= size && at - HEADER <= QUESTION ? at - HEADER : 0;
}

/* FNV-1a over the ID and the question. */
static uint32_t hash_of(const byte *message, size_t length)
{
	uint32_t hash = 2166136261u;

	hash = (hash ^ message[0]) * 16777619u;
	hash = (hash ^ message[1]) * 16777619u;
	for (size_t at = HEADER; at < HEADER + length; at++)
		hash = (hash ^ message[at]) * 16777619u;
	return hash;
}

static struct entry **bucket(uint32_t hash)
{
	return &buckets[(hash ^ hash >> 16) & (PENDING - 1)];
}

static void forget(struct entry *one)
{
	struct entry **link = bucket(one->hash);

	while (*link != one)
		link = &(*link)->next;
	*link = one->next;
	one->length = 0;
}

static void remember(const byte *message, size_t length, const struct sockaddr_in *client)
{
	struct entry *one = &entries[newest++ & (PENDING - 1)], **first;

	if (one->length)
		forget(one);
	one->hash = hash_of(message, length);
	one->length = length;
	one->client = *client;
	memcpy(one->id, message, 2);
	memcpy(one->question, message + HEADER, length);
	first = bucket(one->hash);
	one->next = *first;
	*first = one;
}

static struct entry *find(const byte *message, size_t size)
{
	size_t length = question_length(message, size);
	uint32_t hash = hash_of(message, length);

	if (!length)
		return NULL;
	for (struct entry *one = *bucket(hash); one; one = one->next)
		if (one->hash == hash && one->length == length && !memcmp(one->id, message, 2)
		    && !memcmp(one->question, message + HEADER, length))
			return one;
	return NULL;
}

/* Write what waits; true when some is left because the kernel takes no more. */
static int flush(SSL *tls)
{
	while (out_begin < out_end) {
		int wrote = SSL_write(tls, outgoing + out_begin, out_end - out_begin);

		if (wrote <= 0) {
			if (SSL_get_error(tls, wrote) != SSL_ERROR_WANT_WRITE)
				die("write");
			return 1;
		}
		out_begin += wrote;
	}
	out_begin = out_end = 0;
	return 0;
}

/* Take a batch of queries and put them, behind their lengths, where flush finds them. */
static void take_queries(int udp)
{
	for (int taken = 0; taken < BATCH && out_end + 2 + 4096 < sizeof outgoing; taken++) {
		struct sockaddr_in client;
		socklen_t client_size = sizeof client;
		byte *message = outgoing + out_end + 2;
		ssize_t size = recvfrom(udp, message, 4096, 0, (struct sockaddr *)&client, &client_size);
		size_t length;

		if (size < 0)
			return;
		length = size >= HEADER && !(message[2] & 0x80) ? question_length(message, size) : 0;
		if (!length)
			continue;
		remember(message, length, &client);
		message[-2] = size >> 8;
		message[-1] = size;
		out_end += 2 + size;
	}
}

/* Read until there is no more, and hand every whole answer to who asked. */
static void take_answers(SSL *tls, int udp)
{
	for (;;) {
		int got = SSL_read(tls, incoming + in_end, sizeof incoming - in_end);
		size_t at = 0;
		if (got <= 0) {
			if (SSL_get_error(tls, got) != SSL_ERROR_WANT_READ)
				die("read");
			return;
		}
		in_end += got;
		while (at + 2 <= in_end) {
			size_t size = incoming[at] << 8 | incoming[at + 1];
			byte *message = incoming + at + 2;
			struct entry *one;

			if (at + 2 + size > in_end)
				break;
			at += 2 + size;
			one = size >= HEADER && message[2] & 0x80 ? find(message, size) : NULL;
			if (one) {
				sendto(udp, message, size, 0, (struct sockaddr *)&one->client, sizeof one->client);
				forget(one);
			}
		}
		memmove(incoming, incoming + at, in_end - at);
		in_end -= at;
	}
}

static SSL *connect_tls(int tcp, int port, const char *ca_file)
{
	struct sockaddr_in address = { AF_INET, htons(port), { htonl(INADDR_LOOPBACK) }, { 0 } };
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	int on = 1;
	SSL *tls;

	if (!SSL_CTX_load_verify_locations(context, ca_file, NULL))
		die("CA file");
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(context, 1);	/* else every record costs two reads */
	if (connect(tcp, (struct sockaddr *)&address, sizeof address))
		die("connect");
	setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	tls = SSL_new(context);
	if (!SSL_set1_host(tls, NAME) || !SSL_set_tlsext_host_name(tls, NAME) || !SSL_set_fd(tls, tcp))
		die("TLS");
	if (SSL_connect(tls) != 1) {
		fprintf(stderr, "handshake: %s\n", X509_verify_cert_error_string(SSL_get_verify_result(tls)));
		exit(1);
	}
	fcntl(tcp, F_SETFL, O_NONBLOCK);
	return tls;
}

int main(int count, char **argument)
{
	int udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), tcp = socket(AF_INET, SOCK_STREAM, 0);
	int poll = epoll_create1(0), buffer = 4 << 20, blocked = 0;
	struct epoll_event event = {.events = EPOLLIN,.data.fd = udp }, events[2];
	struct sockaddr_in address = { AF_INET, 0, { htonl(INADDR_LOOPBACK) }, { 0 } };
	SSL *tls;
	if (count != 4)
		return 2;
	tls = connect_tls(tcp, atoi(argument[2]), argument[3]);
	setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
	address.sin_port = htons(atoi(argument[1]));
	if (bind(udp, (struct sockaddr *)&address, sizeof address))
		die("bind");
	epoll_ctl(poll, EPOLL_CTL_ADD, udp, &event);
	event.data.fd = tcp;
	epoll_ctl(poll, EPOLL_CTL_ADD, tcp, &event);
	for (;;) {
		int ready = epoll_wait(poll, events, 2, -1), was_blocked = blocked;

		for (int at = 0; at < ready; at++)
			if (events[at].data.fd == udp)
				take_queries(udp);
			else if (events[at].events & ~EPOLLOUT)
				take_answers(tls, udp);
		blocked = flush(tls);
		if (blocked != was_blocked) {
			event.events = blocked ? EPOLLIN | EPOLLOUT : EPOLLIN;
			epoll_ctl(poll, EPOLL_CTL_MOD, tcp, &event);
		}
	}
}
