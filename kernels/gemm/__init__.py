"""The matrix product of the QKV projection that rotates its own output."""
