"""The KvStore port and its adapters: ``rocks`` on disk, ``memory`` with losable writes."""
