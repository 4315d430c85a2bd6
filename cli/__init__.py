"""The `rao` command: one file per command. Installs as `rao_cli`."""
