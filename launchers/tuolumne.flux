#!/bin/bash
#flux: --bank=BANK
#flux: --queue=pdebug
#flux: --time-limit=30m
#flux: --nodes=2
#flux: --exclusive

# Tuolumne (LLNL), as El Capitan: 4 MI300A, 96 cores, Flux
exec pilotwrap run --spec job.json
