"""The resources of admin REST: one file per noun, plain values in and out."""
