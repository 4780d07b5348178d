//! Codes of the process, its log and its metrics.

use super::{rows, web};

rows! {
    PROCESS:

    BAD_FILE = "W0501", "not the path of a file",
    "The access log goes to `\"stdout\"` or to a file, not to a folder.",
    wrong: web!("\n[access_log]\npath = \"/var/log/weir/\""),
    right: web!("\n[access_log]\npath = \"/var/log/weir/access.log\"");

    BAD_ACCOUNT = "W0502", "not the name of a user or group",
    "Names of users and groups hold no white space and no colon.",
    wrong: web!("\n[process]\nuser = \"weir:weir\""),
    right: web!("\n[process]\nuser = \"weir\"\ngroup = \"weir\"");

    OPEN_GRANTOR = "W0503", "a grantor that is open to all",
    "Whoever can reach the grantor can take the connections of a budget away from others. Beyond this host it asks for a token.",
    wrong: "[grantor]\nbind = \"0.0.0.0:9902\"\n\n[budget.orders-db]\nconnections = 40\n",
    right: "[grantor]\nbind = \"0.0.0.0:9902\"\ntoken = \"c0ffee-5a17-4e2b-9d33\"\n\n[budget.orders-db]\nconnections = 40\n";

    BAD_TOKEN = "W0504", "not a token",
    "A token is a secret that travels in a header field: visible ASCII characters without spaces, and so many that nobody \
     guesses them.",
    wrong: "[grantor]\ntoken = \"secret\"\n\n[budget.orders-db]\nconnections = 40\n",
    right: "[grantor]\ntoken = \"c0ffee-5a17-4e2b-9d33\"\n\n[budget.orders-db]\nconnections = 40\n";
}
