"""The virtual clients: kernels that send, receive and judge, and the memory they share."""
