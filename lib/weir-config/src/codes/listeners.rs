//! Codes of listeners and of addresses.

use super::{cluster, listener, rows, web};

rows! {
    LISTENERS:

    BAD_ADDRESS = "W0201", "not an address",
    "An address is `IP:PORT`, `[IPv6]:PORT` or `unix:/path`; for endpoints also `name:port`. There is no scheme and no \
     path. A listener takes no names and no bare port, so that it is plain to whom it is open.",
    wrong: cluster!("endpoints = [\"http://10.0.0.1:8080/\"]"),
    right: cluster!("endpoints = [\"10.0.0.1:8080\"]");

    BAD_UNIX_PATH = "W0202", "not the path of a Unix socket",
    "The path of a Unix socket is absolute and has at most 107 bytes: the system's structure for it holds 108 with the \
     zero at its end.",
    wrong: cluster!("endpoints = [\"unix:run/app.sock\"]"),
    right: cluster!("endpoints = [\"unix:/run/app.sock\"]");

    RANDOM_PORT = "W0203", "the system chooses the port",
    "Port 0 lets the system choose a free port at each start. That is for tests; clients could not know it.",
    wrong: "[[listener]]\nbind = \"127.0.0.1:0\"\ncluster = \"web\"\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n",
    right: listener!("");

    DUPLICATE_LISTENER = "W0204", "two listeners of one name",
    "Routes, logs and metrics call listeners by name.",
    wrong: "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:8080\"\ncluster = \"web\"\n\n[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:8081\"\ncluster = \"web\"\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n",
    right: "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:8080\"\ncluster = \"web\"\n\n[[listener]]\nname = \"b\"\nbind = \"127.0.0.1:8081\"\ncluster = \"web\"\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n";

    OVERLAPPING_BIND = "W0205", "two addresses overlap",
    "The two cannot be bound at the same time: they are equal, or one of them is a wildcard (`0.0.0.0`, `[::]`) that \
     takes the other's port. `[::]` takes IPv4 too, unless `ipv6_only = true`. The address of `[metrics]` counts as well.",
    wrong: "[[listener]]\nbind = [\"0.0.0.0:8080\", \"127.0.0.1:8080\"]\ncluster = \"web\"\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n",
    right: "[[listener]]\nbind = [\"0.0.0.0:8080\"]\ncluster = \"web\"\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n";

    BAD_MODE = "W0206", "not a set of permission bits",
    "Permission bits are octal digits in quotes, `\"0000\"` to `\"0777\"`. A client needs write permission to connect.",
    wrong: "[[listener]]\nbind = \"unix:/run/weir.sock\"\nmode = \"rw-rw----\"\ncluster = \"web\"\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n",
    right: "[[listener]]\nbind = \"unix:/run/weir.sock\"\nmode = \"0660\"\ncluster = \"web\"\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n";

    BAD_PREFIX = "W0207", "not an address prefix",
    "A prefix is an address, a slash and the number of leading bits that count: 0 to 32 for IPv4, 0 to 128 for IPv6. Bits \
     behind them must be zero, because `10.0.0.1/8` could mean the network or the host.",
    wrong: listener!("trusted = [\"10.0.0.0/33\"]"),
    right: listener!("trusted = [\"10.0.0.0/8\"]");

    TRUSTS_ALL = "W0208", "every client is trusted",
    "A prefix of no bits trusts every peer to say where a request comes from. Anybody can then pretend any client \
     address, which defeats address hashing, logs and limits.",
    wrong: listener!("trusted = \"0.0.0.0/0\""),
    right: listener!("trusted = \"10.0.0.0/8\"");

    NOT_FOR_TCP = "W0209", "an HTTP setting at a TCP listener",
    "A TCP listener forwards bytes and does not look into them, so settings of HTTP messages have no meaning there. \
     Time-outs of tunnels are set at the cluster.",
    wrong: listener!("protocol = \"tcp\"\nx_forwarded = false"),
    right: listener!("protocol = \"tcp\"");

    NO_DESTINATION = "W0210", "a listener that leads nowhere",
    "An HTTP listener needs a `cluster` or at least one route, a TCP listener needs a `cluster`.",
    wrong: "[[listener]]\nbind = \"127.0.0.1:8080\"\n",
    right: listener!("");

    BAD_ERROR_PAGE = "W0211", "an error page that is never shown",
    "Error pages replace the bodies of responses that Weir itself makes, and Weir makes only the statuses that the help \
     line lists. Error responses of endpoints pass unchanged.",
    wrong: listener!("error_pages = { 418 = { body = \"short and stout\" } }"),
    right: listener!("error_pages = { 503 = { body = \"Back in a minute.\" } }");

    BAD_VIA = "W0212", "not a pseudonym",
    "`Via` names a proxy by one word (RFC 9110 section 7.6.3): letters, digits and `-._`.",
    wrong: listener!("via = \"my proxy\""),
    right: listener!("via = \"my-proxy\"");

    PORT_ZERO = "W0213", "an endpoint at port 0",
    "Port 0 is no port that can be connected to.",
    wrong: cluster!("endpoints = [\"10.0.0.1:0\"]"),
    right: cluster!("endpoints = [\"10.0.0.1:8080\"]");

    BAD_HOST = "W0214", "not a host",
    "A host name has parts of letters, digits, `-` and `_` between dots, at most 63 bytes each and 253 in all. In a route \
     it stands in lower case, without port and without a dot at its end; `*.` may stand before it for every host below it.",
    wrong: web!("\n[[route]]\nhost = \"api.*.example.org\"\nrespond = { status = 404 }"),
    right: web!("\n[[route]]\nhost = \"*.example.org\"\nrespond = { status = 404 }");
}
