# make demo   everything on this machine alone: a resolver, the forwarder, two queries
# make test   the whole test suite
# Both make a virtual environment in .venv first. PYTHON=python3.13 picks another Python.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo run test test-shape test-windows check bench bench-compare bench-peers bench-scale faults clean

demo: $(VENV)/run
	@$(BIN)/udp2tls --demo $(ARGS)

run: $(VENV)/run
	@$(BIN)/udp2tls $(ARGS)

test: $(VENV)/test
	$(BIN)/python -m pytest $(ARGS)

# What depends on the system, and some of the tests with real peers, without what Windows lacks: tests/shape.py.
test-shape: $(VENV)/test
	$(BIN)/python -m pytest -p tests.shape tests/test_*.py tests/peers/test_command_line.py tests/peers/test_servers.py $(ARGS)

# Windows' own Python and nssm under Wine: tests/windows; ARGS=--suite or --no-suite for half of it.
# Downloads 130 MB the first time.
test-windows: $(VENV)/test
	timeout --kill-after=10 300 $(BIN)/python -m tests.windows $(ARGS)

check: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/bench
	$(BIN)/python -m pytest bench $(ARGS)

# This tree beside another revision, on the hot path, two minutes: make bench-compare BASE=HEAD~3
bench-compare: $(VENV)/bench
	$(BIN)/python -m bench.compare $(or $(BASE),HEAD) $(ARGS)

# Other forwarders beside this one, eight and a half minutes; writes bench/peers.json, the README's table and the plots.
bench-peers: $(VENV)/bench
	$(BIN)/python -m bench.peers $(ARGS)

# What a query costs among many clients, pending queries, upstreams; sizes; start. Half a minute.
bench-scale: $(VENV)/bench
	$(BIN)/python -m bench.scale $(ARGS)

# The fault-injection suite, eight minutes; PEERS=1: other forwarders as well, and the table.
faults: $(VENV)/test
	$(BIN)/python -m tests.faults $(if $(PEERS),--peers) $(ARGS)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Editable, so that what is run is what is in the tree.
$(VENV)/run: $(BIN)/python setup.cfg
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/test: $(VENV)/run
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

$(VENV)/bench: $(VENV)/run
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .wine-cache
