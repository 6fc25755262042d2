"""What benches start: nodes of consensus without PostgreSQL, and etcd to compare them with."""
