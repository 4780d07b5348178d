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
}
