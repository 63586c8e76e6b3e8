"""Windows' own Python and nssm under Wine: ``python -m tests.windows``, or ``make test-windows``.

First the suite runs there, then the program as a service: installed with the commands that
``--nssm`` prints, asked over UDP and TCP, stopped, killed, configured badly. The resolver it
asks is on the Linux side of the same loopback.

Wine is a good witness for Python's ways on Windows (selector, signals, streams, files, missing
calls) and for nssm. It is none for what Windows' network does by itself: errors of UDP after
ICMP, shared ports, slow refusals, the store of authorities, the firewall. Those have fake
sockets in tests/test_windows_errors.py.

Without the downloads (Debian's wine; two packages with pinned hashes, see programs.txt) it
says so and is no failure. Everything is below .wine-cache in the checkout, but for wine itself.

    obtain     gets Wine, Python, nssm and the tests' packages
    wine       runs programs in a Windows of their own, which lives as long as the run
    __main__   the run, one line for everything that was found to be so
"""
