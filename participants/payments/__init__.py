"""What a bank does about payments: orders, incoming ones, holds, disputes; sending and receiving."""
