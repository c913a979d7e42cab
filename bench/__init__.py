"""Measure fastrnn against other libraries and against the machine: ``python -m bench rnn``.

    shapes     what is measured, with the goals: the one table of rows
    bench_*    one suite each: its cases, our side of them, and their roofs
    rnn_*      the recurrent problem, and how each peer solves it
    peers      the other libraries: versions, thread counts, sessions
    gate       no time is taken of a library whose results are wrong
    measure    interleaved rounds, medians, spreads
    roofs      what the machine can do at best
    runner     takes cases through gate and measurement
    report     results as table, JSON and plot
    machine    where and with what it was measured

A further suite is a file of its own with a function that returns its cases, and a line in `bench.__main__`.
"""
