"""One file per command: how it is applied. `machine` looks the function up by record kind."""
