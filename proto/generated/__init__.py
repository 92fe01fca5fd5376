"""Made by scripts/proto.sh from proto/*.proto; never edited."""
