//! Codes of routes.

use super::{route, rows, web};

rows! {
    ROUTES:

    NO_ACTION = "W0301", "a route without an action",
    "A route says what happens to the requests that it matches: `cluster` forwards them, `redirect` and `respond` answer.",
    wrong: web!("\n[[route]]\npath = \"/old\""),
    right: web!("\n[[route]]\npath = \"/old\"\nredirect = { path = \"/new\" }");

    SEVERAL_ACTIONS = "W0302", "a route with several actions",
    "A route has one action. Two actions under different conditions are two routes.",
    wrong: route!("cluster = \"web\"\nrespond = { status = 404 }"),
    right: route!("cluster = \"web\"");

    UNKNOWN_LISTENER = "W0303", "a route names an unknown listener",
    "`listener` names listeners by their `name`; without one, a listener is called by its first address.",
    wrong: "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:8080\"\ncluster = \"web\"\n\n[[route]]\nlistener = \"pubic\"\npath = \"/x\"\nrespond = { status = 404 }\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n",
    right: "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:8080\"\ncluster = \"web\"\n\n[[route]]\nlistener = \"public\"\npath = \"/x\"\nrespond = { status = 404 }\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n";

    ROUTE_ON_TCP = "W0304", "a route at a TCP listener",
    "Routes look at hosts, paths and header fields, which only HTTP has. A TCP listener sends everything to its `cluster`.",
    wrong: "[[listener]]\nprotocol = \"tcp\"\nbind = \"127.0.0.1:8080\"\ncluster = \"web\"\n\n[[route]]\npath = \"/x\"\nrespond = { status = 404 }\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n",
    right: "[[listener]]\nprotocol = \"http\"\nbind = \"127.0.0.1:8080\"\ncluster = \"web\"\n\n[[route]]\npath = \"/x\"\nrespond = { status = 404 }\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n";

    BAD_PATH = "W0305", "not a path",
    "A path starts with `/` and ends before the query. Conditions on the query go into `query`.",
    wrong: web!("\n[[route]]\npath = \"login\"\nrespond = { status = 404 }"),
    right: web!("\n[[route]]\npath = \"/login\"\nrespond = { status = 404 }");

    PATH_NOT_NORMAL = "W0306", "a path that no request can have",
    "Requests are matched in normal form: dot segments are removed, characters that need no escape are not escaped, escapes \
     are in upper case (RFC 3986 section 6.2.2). A path in another form would never match. A prefix has no `/` at its end, \
     because it matches by whole segments anyway.",
    wrong: web!("\n[[route]]\npath = \"/a/../b\"\nrespond = { status = 404 }"),
    right: web!("\n[[route]]\npath = \"/b\"\nrespond = { status = 404 }");

    BAD_REGEX = "W0307", "not a regular expression",
    "The place within the expression is marked. The syntax is that of the Rust crate `regex`: no look-around and no back \
     references, and matching takes linear time. Between single quotes, TOML leaves backslashes alone.",
    wrong: web!("\n[[route]]\npath_regex = '/user/(\\d+'\nrespond = { status = 404 }"),
    right: web!("\n[[route]]\npath_regex = '/user/(\\d+)'\nrespond = { status = 404 }");

    BAD_METHOD = "W0308", "not a method",
    "Methods are case-sensitive (RFC 9110 section 9.1) and the known ones are in upper case.",
    wrong: web!("\n[[route]]\nmethod = \"get\"\nrespond = { status = 404 }"),
    right: web!("\n[[route]]\nmethod = \"GET\"\nrespond = { status = 404 }");

    BAD_HEADER_NAME = "W0309", "not a header name",
    "A header name is a token (RFC 9110 section 5.6.2): letters, digits and a few signs such as `-`, without colon and white \
     space. Names do not tell upper and lower case apart, so the same name in another case is the same header.",
    wrong: web!("\n[[route]]\nheader = { \"X-Canary:\" = \"yes\" }\nrespond = { status = 404 }"),
    right: web!("\n[[route]]\nheader = { \"X-Canary\" = \"yes\" }\nrespond = { status = 404 }");

    BAD_HEADER_VALUE = "W0310", "not a header value",
    "A header value holds no control characters: a line break within it would start another field (header injection). It \
     neither starts nor ends with white space, which receivers strip.",
    wrong: route!("cluster = \"web\"\nresponse_headers = { set = { X-Team = \"a\\r\\nSet-Cookie: b\" } }"),
    right: route!("cluster = \"web\"\nresponse_headers = { set = { X-Team = \"a\" } }");

    FORBIDDEN_HEADER = "W0311", "a header that cannot be edited",
    "Fields that hold for one connection (`Connection`, `Keep-Alive`, `TE`, `Upgrade`, ...; RFC 9110 section 7.6.1) or frame \
     the message (`Content-Length`, `Transfer-Encoding`) are written by Weir. Changing them would break connections or let \
     requests be smuggled. A request has exactly one `Host`: `set` changes it.",
    wrong: route!("cluster = \"web\"\nrequest_headers = { set = { Content-Length = \"0\" } }"),
    right: route!("cluster = \"web\"\nrequest_headers = { set = { X-Team = \"a\" } }");

    BAD_STATUS = "W0312", "not a fitting status",
    "A redirect has status 301, 302, 303, 307 or 308. A probe's statuses are from 100 to 599: `200`, `\"2xx\"` or \
     `\"200-299\"`.",
    wrong: web!("\n[[route]]\npath = \"/old\"\nredirect = { status = 304, path = \"/new\" }"),
    right: web!("\n[[route]]\npath = \"/old\"\nredirect = { status = 308, path = \"/new\" }");

    REDIRECT_LOOP = "W0313", "a redirect to itself",
    "The redirect changes nothing, so the client would come back to the same route until it gives up.",
    wrong: web!("\n[[route]]\npath = \"/old\"\nredirect = { status = 308 }"),
    right: web!("\n[[route]]\npath = \"/old\"\nredirect = { scheme = \"https\" }");

    DUPLICATE_ROUTE = "W0314", "two routes for the same requests",
    "Both routes match exactly the same requests, so one of them would never be taken. A listener's `cluster` counts as a \
     route that matches everything.",
    wrong: web!("\n[[route]]\npath = \"/a\"\nrespond = { status = 404 }\n\n[[route]]\npath = \"/a\"\nrespond = { status = 410 }"),
    right: web!("\n[[route]]\npath = \"/a\"\nrespond = { status = 404 }\n\n[[route]]\npath = \"/b\"\nrespond = { status = 410 }");

    UNREACHABLE_ROUTE = "W0315", "a route that is never reached",
    "A route that is tried earlier matches every request that this one matches. Routes are tried by how specific they are, \
     then by their place in the file; see the reference of `[[route]]`.",
    wrong: web!("\n[[route]]\npath = \"/a\"\nmethod = [\"GET\", \"HEAD\"]\nrespond = { status = 404 }\n\n[[route]]\npath = \"/a\"\nmethod = \"GET\"\nrespond = { status = 410 }"),
    right: web!("\n[[route]]\npath = \"/a\"\nmethod = [\"GET\", \"HEAD\"]\nrespond = { status = 404 }\n\n[[route]]\npath = \"/a\"\nmethod = \"POST\"\nrespond = { status = 410 }");

    NO_PREFIX = "W0316", "a prefix is replaced that is not there",
    "`rewrite_prefix`, and `prefix` of a redirect, replace what `path_prefix` matched. Without `path_prefix` there is nothing \
     to replace.",
    wrong: route!("path = \"/api\"\nrewrite_prefix = \"/\"\ncluster = \"web\""),
    right: route!("path_prefix = \"/api\"\nrewrite_prefix = \"/\"\ncluster = \"web\"");

    DUPLICATE_ROUTE_NAME = "W0317", "two routes of one name",
    "Logs and metrics call routes by name. Routes without a name are called `route-1`, `route-2` and so on, by their place \
     in the file.",
    wrong: web!("\n[[route]]\nname = \"old\"\npath = \"/a\"\nrespond = { status = 404 }\n\n[[route]]\nname = \"old\"\npath = \"/b\"\nrespond = { status = 404 }"),
    right: web!("\n[[route]]\nname = \"old-a\"\npath = \"/a\"\nrespond = { status = 404 }\n\n[[route]]\nname = \"old-b\"\npath = \"/b\"\nrespond = { status = 404 }");

    BODY_FORBIDDEN = "W0318", "a body where there is none",
    "Responses with status 204, 205 and 304 have no content (RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5). A body would be \
     read as the start of the next response.",
    wrong: web!("\n[[route]]\npath = \"/a\"\nrespond = { status = 204, body = \"done\" }"),
    right: web!("\n[[route]]\npath = \"/a\"\nrespond = { status = 200, body = \"done\" }");
}
