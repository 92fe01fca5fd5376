#!/bin/sh
# Prints how pytest shares the tests between two processes; nothing on a machine with one core.
# Each process begins with one half of the tests and then takes from what the other has left: some
# tests take a minute, most take none, and nobody has to know which.
cores=$(nproc 2> /dev/null || getconf _NPROCESSORS_ONLN 2> /dev/null || echo 1)
[ "$cores" -lt 2 ] || echo "-n 2 --dist worksteal"
