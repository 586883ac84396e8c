"""What crosses several rooms, over real sockets."""
