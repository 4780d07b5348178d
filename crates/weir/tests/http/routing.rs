//! Which request goes where, and as what: hosts, paths, conditions, rewrites, redirects, fixed responses.

use weir_test::{Origin, Reply, Weir};

use crate::setup::{Setup, ask, front_of};

/// An origin that tells its name and the target it got.
fn telling(name: &'static str) -> Origin {
    Origin::start(move |request| Reply::text(format!("{name} {}", request.target())))
}

#[track_caller]
fn get(weir: &Weir, host: &str, target: &str, lines: &str) -> String {
    let response = ask(weir, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n"));
    if response.status == 200 { response.text() } else { response.status.to_string() }
}

#[test]
fn requests_go_where_the_most_specific_route_says() {
    let (web, other) = (telling("web"), telling("other"));
    let routes = "
[[route]]
host = \"exact.example\"
cluster = \"other\"
[[route]]
host = \"*.wild.example\"
cluster = \"other\"
[[route]]
path_prefix = \"/api\"
cluster = \"other\"
[[route]]
path_regex = '/user/\\d+'
cluster = \"other\"
[[route]]
path = \"/m\"
method = [\"POST\", \"PURGE\"]
cluster = \"other\"
[[route]]
path = \"/h\"
header = { X-Canary = \"yes\" }
cluster = \"other\"
[[route]]
path = \"/q\"
query = { v = \"2\" }
cluster = \"other\"
";
    let cluster =
        format!("[cluster.other]\nendpoints = [\"127.0.0.1:{}\"]\nhealth = {{ enabled = false }}", other.port());
    let weir = Setup::port(web.port()).rest(&format!("{routes}\n{cluster}")).run();
    for (host, target, lines, expected) in [
        ("exact.example", "/", "", "other /"),
        ("EXACT.example:80", "/", "", "other /"),
        ("not-exact.example", "/", "", "web /"),
        ("a.wild.example", "/", "", "other /"),
        ("a.b.wild.example", "/", "", "other /"),
        ("wild.example", "/", "", "web /"),
        ("h", "/api", "", "other /api"),
        ("h", "/api/", "", "other /api/"),
        ("h", "/api/x?y", "", "other /api/x?y"),
        ("h", "/apix", "", "web /apix"),
        ("h", "/API", "", "web /API"),
        ("h", "/user/12", "", "other /user/12"),
        ("h", "/user/12/x", "", "web /user/12/x"),
        ("h", "/m", "", "web /m"),
        ("h", "/h", "x-canary: yes\r\n", "other /h"),
        ("h", "/h", "X-Canary: no\r\n", "web /h"),
        ("h", "/h", "X-Canary: no\r\nX-Canary: yes\r\n", "other /h"),
        ("h", "/q?a=1&v=2", "", "other /q?a=1&v=2"),
        ("h", "/q?v=%32", "", "other /q?v=%32"),
        ("h", "/q?v=22", "", "web /q?v=22"),
    ] {
        assert_eq!(get(&weir, host, target, lines), expected, "{host} {target} {lines}");
    }
    for (method, expected) in [("POST", "other /m"), ("PURGE", "other /m"), ("PUT", "web /m")] {
        assert_eq!(ask(&weir, format!("{method} /m HTTP/1.1\r\nHost: h\r\n\r\n")).text(), expected);
    }
}

#[test]
fn what_is_routed_on_is_what_is_sent() {
    let web = telling("web");
    let deny = "[[route]]\npath_prefix = \"/admin\"\nrespond = { status = 403 }";
    let weir = Setup::port(web.port()).rest(deny).run();
    // Every other spelling of /admin is denied too, or is sent in a form that no endpoint takes for it.
    for (target, expected) in [
        ("/admin", "403"),
        ("/admin/x", "403"),
        ("/%61dmin", "403"),
        ("/./admin", "403"),
        ("/x/../admin", "403"),
        ("/x/%2e%2E/admin", "403"),
        ("/../admin", "400"),
        ("/x/..;/admin", "400"),
        ("/x%2f..%2fadmin", "400"),
        ("/x\\..\\admin", "400"),
        ("//admin", "web //admin"),
        ("/x%2fadmin", "web /x%2Fadmin"),
        ("/x\\admin", "web /x%5Cadmin"),
        ("/a/b/../c/./d", "web /a/c/d"),
        ("/%7euser/%3a", "web /~user/%3A"),
        ("/x%00", "400"),
        ("/x%", "400"),
        ("/x%zz", "400"),
        ("/x#frag", "400"),
        ("/x\u{e4}", "400"),
    ] {
        assert_eq!(get(&weir, "h", target, ""), expected, "{target}");
    }
}

#[test]
fn queries_are_byte_exact() {
    let web = telling("web");
    let weir = front_of(&web);
    for query in ["", "a=1", "%zz&%", "a/../b", "x=%2F%2f%41", "??", "a=b;c=[d]{e}|^`\"<>\\"] {
        assert_eq!(get(&weir, "h", &format!("/p?{query}"), ""), format!("web /p?{query}"));
    }
}

#[test]
fn path_policies_are_the_listeners() {
    let web = telling("web");
    let weir = Setup::port(web.port()).listener("merge_slashes = true\nencoded_slash = \"reject\"").run();
    for (target, expected) in [
        ("//a///b/", "web /a/b/"),
        ("/a//../b", "web /b"),
        ("/a%2Fb", "400"),
        ("/a%5cb", "400"),
        ("/a\\b", "400"),
        ("/a?x=%2F//", "web /a?x=%2F//"),
    ] {
        let got = get(&weir, "h", target, "");
        if target == "/a//../b" {
            // With runs of slashes merged first or last, `..` takes one segment.
            assert!(got == "web /b" || got == "web /a/b", "{got}");
        } else {
            assert_eq!(got, expected, "{target}");
        }
    }
}

#[test]
fn prefixes_and_paths_are_rewritten() {
    let web = telling("web");
    let routes = "
[[route]]
path_prefix = \"/v1\"
cluster = \"web\"
rewrite_prefix = \"/api\"
[[route]]
path_prefix = \"/strip\"
cluster = \"web\"
rewrite_prefix = \"/\"
[[route]]
path_regex = '/user/\\d+'
cluster = \"web\"
rewrite_path = \"/user\"
";
    let weir = Setup::port(web.port()).rest(routes).run();
    for (target, expected) in [
        ("/v1", "web /api"),
        ("/v1/", "web /api/"),
        ("/v1/x/y?q=%20", "web /api/x/y?q=%20"),
        ("/v1x", "web /v1x"),
        ("/strip", "web /"),
        ("/strip/", "web /"),
        ("/strip/x", "web /x"),
        ("/strip?q", "web /?q"),
        ("/user/7?q", "web /user?q"),
    ] {
        assert_eq!(get(&weir, "h", target, ""), expected, "{target}");
    }
}

#[test]
fn redirects_keep_what_they_do_not_name() {
    let web = telling("web");
    let routes = "
[[route]]
path = \"/old\"
redirect = { status = 301, path = \"/new\" }
[[route]]
path_prefix = \"/secure\"
redirect = { scheme = \"https\" }
[[route]]
path_prefix = \"/moved\"
redirect = { status = 307, host = \"other.example:8443\", prefix = \"/here\" }
";
    let weir = Setup::port(web.port()).rest(routes).run();
    for (target, status, location) in [
        ("/old?a=%2F", 301, "http://h.example/new?a=%2F"),
        ("/secure/x?y", 308, "https://h.example/secure/x?y"),
        ("/moved/a/b", 307, "http://other.example:8443/here/a/b"),
    ] {
        let mut client = weir.client();
        for _ in 0..2 {
            client.send_raw(format!("GET {target} HTTP/1.1\r\nHost: h.example\r\n\r\n")).unwrap();
            let response = client.read_response().unwrap();
            assert_eq!((response.status, response.field("location")), (status, Some(location)), "{target}");
            assert_eq!(response.field("content-length"), Some("0"));
        }
    }
}

#[test]
fn fixed_responses_need_no_endpoint() {
    let route = "[[route]]\npath = \"/robots.txt\"\nrespond = { body = \"none\", content_type = \"text/plain\" }\n\
                 response_headers = { set = { X-From = \"weir\" } }\n\
                 [[route]]\npath = \"/empty\"\nrespond = { status = 204 }";
    let weir = Setup::port(weir_test::free_port()).rest(route).run();
    let mut client = weir.client();
    let response = client.get("/robots.txt").unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "none"));
    assert_eq!((response.field("content-type"), response.field("x-from")), (Some("text/plain"), Some("weir")));
    client.send_raw("HEAD /robots.txt HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let response = client.read_response_to("HEAD").unwrap();
    assert_eq!((response.field("content-length"), response.body.len()), (Some("4"), 0));
    let response = client.get("/empty").unwrap();
    assert_eq!((response.status, response.field("content-length")), (204, None));
    // A request body that nobody reads ends the connection, visibly.
    client.send_raw("PUT /robots.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab").unwrap();
    assert_eq!(client.read_response().unwrap().field("connection"), Some("close"));
    crate::setup::assert_closed(&mut client);
}
