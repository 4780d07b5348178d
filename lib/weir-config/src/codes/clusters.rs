//! Codes of clusters.

use super::{cluster, listener, rows, web};

rows! {
    CLUSTERS:

    UNKNOWN_CLUSTER = "W0401", "an unknown cluster",
    "A listener or a route names a cluster that is not there. Clusters are written as `[cluster.NAME]`.",
    wrong: "[[listener]]\nbind = \"127.0.0.1:8080\"\ncluster = \"wbe\"\n\n[[route]]\npath = \"/x\"\ncluster = \"web\"\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n",
    right: listener!("");

    UNUSED_CLUSTER = "W0402", "a cluster without traffic",
    "No listener and no route names this cluster. Its endpoints are still checked, but get no requests.",
    wrong: web!("\n[cluster.api]\nendpoints = [\"10.0.0.2:8080\"]"),
    right: web!("\n[[route]]\npath_prefix = \"/api\"\ncluster = \"api\"\n\n[cluster.api]\nendpoints = [\"10.0.0.2:8080\"]");

    DUPLICATE_ENDPOINT = "W0403", "an endpoint is there twice",
    "The same address or the same name stands twice in one cluster. For more traffic to one endpoint, use `weight`.",
    wrong: cluster!("endpoints = [\"10.0.0.1:8080\", \"10.0.0.1:8080\"]"),
    right: cluster!("endpoints = [{ address = \"10.0.0.1:8080\", weight = 2 }]");

    ALL_WEIGHTS_ZERO = "W0404", "no endpoint gets traffic",
    "An endpoint of weight 0 gets no requests, and in this cluster every endpoint has weight 0.",
    wrong: cluster!("endpoints = [{ address = \"10.0.0.1:8080\", weight = 0 }]"),
    right: cluster!("endpoints = [{ address = \"10.0.0.1:8080\", weight = 1 }]");

    NAME_FOR_MANY = "W0405", "one name for several endpoints",
    "A host name stands for every address behind it, so the endpoints get their names from the addresses. A fixed `name` \
     would be the same for all of them.",
    wrong: cluster!("endpoints = [{ address = \"app.internal:8080\", name = \"app\" }]"),
    right: cluster!("endpoints = [{ address = \"10.0.0.1:8080\", name = \"app\" }]");

    WEIGHTS_IGNORED = "W0406", "weights are ignored",
    "`round_robin` gives each endpoint the same share; only weight 0 counts. `weighted_round_robin` honours weights.",
    wrong: cluster!("balance = \"round_robin\"\nendpoints = [{ address = \"10.0.0.1:8080\", weight = 3 }, \"10.0.0.2:8080\"]"),
    right: cluster!("balance = \"weighted_round_robin\"\nendpoints = [{ address = \"10.0.0.1:8080\", weight = 3 }, \"10.0.0.2:8080\"]");

    NOT_FOR_ALGORITHM = "W0407", "a setting of another algorithm",
    "The setting has no meaning for the chosen algorithm: only consistent hashing has a `key`, only `ring_hash` has virtual \
     nodes, only `maglev` has a table.",
    wrong: web!("balance = { algorithm = \"least_connections\", key = \"header:X-User\" }"),
    right: web!("balance = { algorithm = \"ring_hash\", key = \"header:X-User\" }");

    BAD_KEY = "W0408", "not a key to hash",
    "The key of consistent hashing is `client_ip`, `path`, `header:NAME`, `cookie:NAME` or `query:NAME`.",
    wrong: web!("balance = { algorithm = \"ring_hash\", key = \"X-User\" }"),
    right: web!("balance = { algorithm = \"ring_hash\", key = \"header:X-User\" }");

    BAD_TABLE_SIZE = "W0409", "not a table size",
    "The size of Maglev's table is a prime, so that each endpoint's sequence of places visits all of them. It should be at \
     least 100 times the number of endpoints, or shares become uneven.",
    wrong: web!("balance = { algorithm = \"maglev\", table_size = 65536 }"),
    right: web!("balance = { algorithm = \"maglev\", table_size = 65537 }");

    BAD_BOUND = "W0410", "a load bound without room",
    "`bounded_load` is the factor of its fair share that an endpoint may have in flight. At 1 or below every endpoint would \
     be full as soon as the load is even.",
    wrong: web!("balance = { algorithm = \"maglev\", bounded_load = 1.0 }"),
    right: web!("balance = { algorithm = \"maglev\", bounded_load = 1.25 }");
}
