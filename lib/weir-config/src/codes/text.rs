//! Codes of text and values.

use super::{cluster, listener, route, rows, web};

rows! {
    TEXT:

    SYNTAX = "W0101", "the text is not TOML",
    "The file breaks a rule of TOML, so nothing behind that place can be understood. Common causes: a missing quote or \
     bracket; text, a duration or an address without quotes; the same key or table header twice. Nothing else is reported \
     until the syntax is right.",
    wrong: listener!("max_connections = 10k"),
    right: listener!("max_connections = 10_000");

    TOO_LARGE = "W0102", "the configuration is too large",
    "At most 4 MiB are read, so that a wrong file (a log, an image) is refused at once. A configuration of that size is \
     nearly always a generated list of endpoints: let a host name stand for many addresses instead.",
    wrong: "",
    right: "";

    TOO_MANY = "W0103", "too many entries",
    "Listeners (64), routes (4096), clusters (4096), endpoints of one cluster (16384) and tags of one endpoint (64) are \
     bounded, so that memory and start-up time are. Host names stand for many addresses and count as one endpoint.",
    wrong: "",
    right: "";

    UNKNOWN_KEY = "W0104", "unknown key",
    "Weir does not know this key at this place. It is an error, because an option that is silently ignored is an option \
     that silently does not work. The help line names the nearest known key, or the table that the key belongs to.",
    wrong: cluster!("endpoint = [\"10.0.0.1:8080\"]"),
    right: cluster!("endpoints = [\"10.0.0.1:8080\"]");

    WRONG_TYPE = "W0105", "wrong type",
    "The key is known but holds another kind of value: a number in quotes, a list where one value is meant, a table \
     written with single instead of double brackets.",
    wrong: listener!("x_forwarded = \"yes\""),
    right: listener!("x_forwarded = true");

    MISSING_KEY = "W0106", "a required key is missing",
    "This table cannot work without the key that is named. There is no default, because every guess would be wrong for \
     somebody.",
    wrong: "[[listener]]\ncluster = \"web\"\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n",
    right: listener!("");

    UNKNOWN_WORD = "W0107", "unknown word",
    "The key takes one of a few words and this is none of them. The help line lists them.",
    wrong: web!("balance = \"least_conn\""),
    right: web!("balance = \"least_connections\"");

    OUT_OF_RANGE = "W0108", "out of range",
    "The value is of the right kind but outside the range in which it has a meaning. A value is never cut to fit: you \
     get what the file says, or an error.",
    wrong: web!("health = { fall = 0 }"),
    right: web!("health = { fall = 1 }");

    BAD_DURATION = "W0109", "not a duration",
    "A duration is a number with its unit, or several from long to short: `30s`, `1m30s`, `1.5s`, `250ms`. Units are \
     `d`, `h`, `m`, `s`, `ms`, `us` and `ns`. A bare number is refused, because nobody can tell seconds from milliseconds.",
    wrong: web!("timeouts = { connect = 2 }"),
    right: web!("timeouts = { connect = \"2s\" }");

    BAD_SIZE = "W0110", "not a size",
    "A size is a number with its unit: `512B`, `64KiB` (65,536 bytes), `64KB` (64,000 bytes), and `MiB`, `MB`, `GiB`, `GB`.",
    wrong: listener!("limits = { head_size = \"64k\" }"),
    right: listener!("limits = { head_size = \"64KiB\" }");

    BAD_SHARE = "W0111", "not a share",
    "A share is a percentage in quotes, such as `\"20%\"`, or a number from 0 to 1, such as `0.2`.",
    wrong: web!("retry = { budget = \"20\" }"),
    right: web!("retry = { budget = \"20%\" }");

    EMPTY = "W0112", "empty",
    "An empty text or list has no meaning here. Where leaving something out means \"all\" or \"none\", leave the key out.",
    wrong: cluster!("endpoints = []"),
    right: cluster!("endpoints = [\"10.0.0.1:8080\"]");

    CONFLICT = "W0113", "keys that exclude each other",
    "Two keys say different things about the same matter. Weir does not guess which one is meant.",
    wrong: route!("path = \"/a\"\npath_prefix = \"/a\"\ncluster = \"web\""),
    right: route!("path_prefix = \"/a\"\ncluster = \"web\"");

    WITHOUT_EFFECT = "W0114", "a setting that cannot have an effect",
    "The setting belongs to something that is not there: rewriting in a route that does not forward, permission bits \
     where no Unix socket is bound. What was meant is probably missing.",
    wrong: listener!("mode = \"0660\""),
    right: "[[listener]]\nbind = \"unix:/run/weir.sock\"\nmode = \"0660\"\ncluster = \"web\"\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n";

    BAD_NAME = "W0115", "not a name",
    "Names of listeners, routes, clusters, endpoints and zones go into logs and metrics. They hold letters, digits and any \
     of `_-.:/[]@*+`, and at most 128 bytes.",
    wrong: listener!("name = \"front door\""),
    right: listener!("name = \"front-door\"");

    LIMITS_DISAGREE = "W0116", "two limits that contradict each other",
    "Both are written, and one must not be above the other: a probe's time-out above its interval would let probes pile up, a request \
     target longer than the head that holds it could never arrive.",
    wrong: web!("health = { interval = \"1s\", fast_interval = \"1s\", timeout = \"5s\" }"),
    right: web!("health = { interval = \"10s\", timeout = \"5s\" }");

    NO_EFFECT_YET = "W0117", "a setting without effect so far",
    "The setting depends on another one that is switched off. It does no harm, but it does not do what it says either.",
    wrong: web!("limit = { queue = 100 }"),
    right: web!("limit = { max_requests = 50, queue = 100 }");

    UNREADABLE_FILE = "W0118", "a file cannot be read",
    "The configuration names a file that is read when the configuration is loaded, and that failed. A relative path \
     starts at the folder of the configuration file.",
    wrong: listener!("error_pages = { 503 = { file = \"no-such-file.html\" } }"),
    right: listener!("error_pages = { 503 = { body = \"Back in a minute.\" } }");

    BODY_TOO_LARGE = "W0119", "a body is too large",
    "Bodies of error pages and fixed responses are held in memory and may have at most 1 MiB. Serve larger ones from an \
     endpoint.",
    wrong: listener!("error_pages = { 503 = { file = \"two-megabytes.html\" } }"),
    right: listener!("error_pages = { 503 = { body = \"Back in a minute.\" } }");
}
