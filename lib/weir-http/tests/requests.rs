//! What a request head must and must not be, one test for each rule, named after its section.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use weir_core::Reason;
use weir_http::{FieldKind, Form, Framing, Limits, Method, RequestHead, Scheme, Slots, Version, parse_request};

/// Parses a complete head and hands it to `see`.
#[track_caller]
fn accepted<T>(input: impl AsRef<[u8]>, see: impl FnOnce(RequestHead<'_, '_>) -> T) -> T {
    let input = input.as_ref();
    let mut slots = Slots::new();
    match parse_request(input, &mut slots, &Limits::default()) {
        Ok(Some(head)) => see(head),
        other => panic!("{:?} gives {other:?}", String::from_utf8_lossy(input)),
    }
}

#[track_caller]
fn rejected(input: impl AsRef<[u8]>, reason: Reason) {
    let input = input.as_ref();
    let mut slots = Slots::new();
    match parse_request(input, &mut slots, &Limits::default()) {
        Err(reject) => assert_eq!(reject.reason, reason, "{reject}"),
        other => panic!("{:?} gives {other:?}", String::from_utf8_lossy(input)),
    }
}

#[track_caller]
fn incomplete(input: impl AsRef<[u8]>) {
    let mut slots = Slots::new();
    assert_eq!(parse_request(input.as_ref(), &mut slots, &Limits::default()), Ok(None));
}

/// A request with these field lines (each with its line end) behind a valid `Host`.
fn with_fields(fields: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// A request with this target and a valid `Host`.
fn with_target(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: other:1\r\n\r\n")
}

#[test]
fn a_typical_request() {
    let input = "GET /a/b?c=d HTTP/1.1\r\nHost: Example.org:8080\r\nAccept:\t*/* \r\nempty:\r\nX-Forwarded-For: 10.0.0.1\r\n\r\nrest";
    accepted(input, |head| {
        assert_eq!(head.method, Method::Get);
        assert_eq!(head.target.form, Form::Origin);
        assert_eq!(head.target.path, b"/a/b");
        assert_eq!(head.target.query, Some(&b"c=d"[..]));
        assert_eq!((head.target.authority, head.target.scheme), (None, None));
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.host, b"Example.org:8080");
        assert_eq!(head.framing, Framing::None);
        assert_eq!((head.keep_alive, head.expect_continue, head.upgrade), (true, false, None));
        assert_eq!(head.len, input.len() - "rest".len());
        let fields: Vec<_> = head.fields.iter().map(|f| (f.name, f.value, f.kind)).collect();
        assert_eq!(
            fields,
            [
                (&b"Host"[..], &b"Example.org:8080"[..], FieldKind::Host),
                (b"Accept", b"*/*", FieldKind::Other),
                (b"empty", b"", FieldKind::Other),
                (b"X-Forwarded-For", b"10.0.0.1", FieldKind::XForwardedFor),
            ]
        );
    });
}

#[test]
fn rfc9110_9_methods_are_case_sensitive_and_open() {
    for (token, method, safe, idempotent) in [
        ("GET", Method::Get, true, true),
        ("HEAD", Method::Head, true, true),
        ("POST", Method::Post, false, false),
        ("PUT", Method::Put, false, true),
        ("DELETE", Method::Delete, false, true),
        ("OPTIONS", Method::Options, true, true),
        ("PATCH", Method::Patch, false, false),
        ("TRACE", Method::Trace, true, true),
        ("get", Method::Other("get"), false, false),
        ("PROPFIND", Method::Other("PROPFIND"), false, false),
        ("M-SEARCH", Method::Other("M-SEARCH"), false, false),
    ] {
        accepted(with_target(token, "/"), |head| {
            assert_eq!(head.method, method);
            assert_eq!(head.method.as_str(), token);
            assert_eq!((head.method.is_safe(), head.method.is_idempotent()), (safe, idempotent));
        });
    }
    for token in ["", "G(T", "G\tT", "GÉT", "GET,", "\"GET\""] {
        rejected(with_target(token, "/"), Reason::BadRequest);
    }
}

#[test]
fn rfc9112_2_2_bare_lf_is_rejected() {
    for input in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX:\nY: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \nY: b\r\n\r\n",
        "GET / HTTP/1.0\n\n",
        "GET / HTTP/1.0\r\n\n",
        "GET / HTTP/1.0\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        rejected(input, Reason::BadRequest);
    }
}

#[test]
fn rfc9112_2_2_bare_cr_is_rejected() {
    for input in [
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX:\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n",
        "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
        "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        rejected(input, Reason::BadRequest);
    }
}

#[test]
fn rfc9112_2_2_one_empty_line_before_the_request_is_skipped() {
    accepted("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nx", |head| {
        assert_eq!(head.len, 29);
    });
    for input in ["\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r", "\r\n\n"] {
        rejected(input, Reason::BadRequest);
    }
    for input in ["", "\r", "\r\n", "\r\nG"] {
        incomplete(input);
    }
}

#[test]
fn rfc9112_2_2_no_white_space_before_the_first_field() {
    rejected("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Reason::BadRequest);
    rejected("GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", Reason::BadRequest);
}

#[test]
fn rfc9112_2_3_other_versions_are_not_supported() {
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3.0", "HTTP/9.9"] {
        rejected(format!("GET / {version}\r\nHost: a\r\n\r\n"), Reason::VersionNotSupported);
    }
    for version in ["http/1.1", "HTTP/", "HTTP/x", "HTTP/1,1", "HTTPS/1.1", "FTP/1.1", "HTTP/1.1 x", "HTTP/1.11", ""] {
        let input = format!("GET / {version}\r\nHost: a\r\n\r\n");
        let mut slots = Slots::new();
        let reject = parse_request(input.as_bytes(), &mut slots, &Limits::default()).unwrap_err();
        assert!(matches!(reject.reason, Reason::BadRequest | Reason::VersionNotSupported), "{version}");
    }
    rejected("GET /\r\n", Reason::BadRequest);
    accepted("GET / HTTP/1.0\r\n\r\n", |head| {
        assert_eq!(head.version, Version::Http10);
    });
}

#[test]
fn rfc9113_3_4_the_preface_of_http2_is_recognised() {
    rejected("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason::VersionNotSupported);
}

#[test]
fn rfc9112_3_the_request_line_has_single_spaces() {
    for line in ["GET  / HTTP/1.1", "GET /  HTTP/1.1", " GET / HTTP/1.1", "GET\t/ HTTP/1.1", "GET / HTTP/1.1 ", "GET /"]
    {
        rejected(format!("{line}\r\nHost: a\r\n\r\n"), Reason::BadRequest);
    }
}

#[test]
fn rfc9112_3_2_exactly_one_host_in_http11() {
    rejected("GET / HTTP/1.1\r\n\r\n", Reason::BadRequest);
    rejected("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Reason::BadRequest);
    rejected("GET / HTTP/1.1\r\nHost: a\r\nhOsT: b\r\n\r\n", Reason::BadRequest);
    rejected("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Reason::BadRequest);
    rejected("GET http://a/ HTTP/1.1\r\n\r\n", Reason::BadRequest);
    accepted("GET / HTTP/1.0\r\n\r\n", |head| assert_eq!(head.host, b""));
    accepted("GET / HTTP/1.0\r\nHost: a\r\n\r\n", |head| {
        assert_eq!(head.host, b"a");
    });
}

#[test]
fn rfc9112_3_2_host_syntax() {
    for host in [
        "a",
        "a.b",
        "A.example.org",
        "a.:80",
        "a:0",
        "a:65535",
        "a:",
        "1.2.3.4:80",
        "[::1]",
        "[::1]:8080",
        "x_y.z~",
        "[::ffff:1.2.3.4]",
        "xn--bcher-kva.example",
    ] {
        accepted(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), |head| {
            assert_eq!(head.host, host.as_bytes());
        });
    }
    for host in [
        "",
        ":80",
        "a:b",
        "a:65536",
        "a:99999",
        "a:000080",
        "a:+1",
        "a:-1",
        "a:80:90",
        "u@a",
        "u:p@a",
        "a b",
        "a,b",
        "a, b",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "a%20b",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]:x",
        "[]",
        "[v1.x]",
        "[fe80::1%25eth0]",
        "bücher",
        "a\"b",
        "a;b",
        "<a>",
        "a\tb",
        "[1.2.3.4]",
        "a]",
        "a]:80",
    ] {
        rejected(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Reason::BadRequest);
    }
}

#[test]
fn rfc9112_3_2_1_origin_form() {
    for (target, path, query) in [
        ("/", "/", None),
        ("/a?", "/a", Some("")),
        ("/a?b?c", "/a", Some("b?c")),
        ("//a", "//a", None),
        ("/a|b{}[]^`\\\"<>", "/a|b{}[]^`\\\"<>", None),
        ("/http://b/", "/http://b/", None),
    ] {
        accepted(with_target("GET", target), |head| {
            assert_eq!(head.target.form, Form::Origin);
            assert_eq!(head.target.path, path.as_bytes());
            assert_eq!(head.target.query, query.map(str::as_bytes));
            assert_eq!(head.host, b"other:1");
        });
    }
}

#[test]
fn rfc9112_3_2_target_characters() {
    for target in [
        "/a#b", "/#", "/a?b#c", "/a?#", "/é", "/a\u{7f}", "/a\u{1}", "/a\0", "/a\tb", "a", "a/b", "?a", "", "*a",
        "/a b",
    ] {
        rejected(with_target("GET", target), Reason::BadRequest);
    }
    rejected(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", Reason::BadRequest);
    rejected(b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", Reason::BadRequest);
}

#[test]
fn rfc9112_3_2_2_absolute_form_overrides_host() {
    for (target, authority, path, query, scheme) in [
        ("http://a.b/c?d", "a.b", "/c", Some("d"), Scheme::Http),
        ("HTTP://a", "a", "/", None, Scheme::Http),
        ("https://a:443?q", "a:443", "/", Some("q"), Scheme::Https),
        ("http://[::1]:80/", "[::1]:80", "/", None, Scheme::Http),
    ] {
        accepted(with_target("GET", target), |head| {
            assert_eq!(head.target.form, Form::Absolute);
            assert_eq!(head.target.authority, Some(authority.as_bytes()));
            assert_eq!(head.target.path, path.as_bytes());
            assert_eq!(head.target.query, query.map(str::as_bytes));
            assert_eq!(head.target.scheme, Some(scheme));
            assert_eq!(head.host, authority.as_bytes());
        });
    }
    for target in [
        "http:/a",
        "http:a",
        "http://",
        "http:///a",
        "http://u@a/",
        "http://a@b@c/",
        "ftp://a/",
        "://a/",
        "http//a",
        "http://a#b",
        "http://a/#b",
        "http://a\\b/",
        "http://a:x/",
        "ws://a/",
        "javascript:1",
    ] {
        rejected(with_target("GET", target), Reason::BadRequest);
    }
}

#[test]
fn rfc9112_3_2_3_authority_form_only_with_connect() {
    accepted(with_target("CONNECT", "a.b:443"), |head| {
        assert_eq!(head.target.form, Form::Authority);
        assert_eq!((head.target.authority, head.target.path), (Some(&b"a.b:443"[..]), &b""[..]));
        assert_eq!(head.host, b"a.b:443");
    });
    for target in ["a.b", "a.b:", "/", "*", "http://a:80/", ":80", "u@a:80", "a:80/"] {
        rejected(with_target("CONNECT", target), Reason::BadRequest);
    }
    rejected(with_target("GET", "a.b:443"), Reason::BadRequest);
}

#[test]
fn rfc9112_3_2_4_asterisk_form_only_with_options() {
    accepted(with_target("OPTIONS", "*"), |head| {
        assert_eq!((head.target.form, head.target.path), (Form::Asterisk, &b"*"[..]));
    });
    rejected(with_target("GET", "*"), Reason::BadRequest);
    accepted(with_target("OPTIONS", "http://a"), |head| {
        assert_eq!((head.target.form, head.target.path, head.host), (Form::Asterisk, &b"*"[..], &b"a"[..]));
    });
    accepted(with_target("OPTIONS", "http://a?"), |head| {
        assert_eq!((head.target.form, head.target.path), (Form::Absolute, &b"/"[..]));
    });
}

#[test]
fn rfc9112_5_1_field_names_are_tokens_right_before_the_colon() {
    for line in [
        "X : b",
        "X\t: b",
        ": b",
        "X",
        "X b",
        "X y: b",
        "X(: b",
        "X\"y\": b",
        "é: b",
        "X\u{7f}: b",
        "X\0: b",
        "X;y: b",
        "[x]: b",
        "Transfer-Encoding : chunked",
        "Content-Length : 1",
    ] {
        rejected(with_fields(&format!("{line}\r\n")), Reason::BadRequest);
    }
    rejected(b"GET / HTTP/1.1\r\nHost: a\r\nX\xff: b\r\n\r\n", Reason::BadRequest);
    accepted(with_fields("!#$%&'*+-.^_`|~aZ09: b\r\n"), |head| {
        assert_eq!(head.fields[1].value, b"b");
    });
}

#[test]
fn rfc9112_5_2_folded_lines_are_rejected() {
    rejected(with_fields("X: a\r\n b\r\n"), Reason::BadRequest);
    rejected(with_fields("X: a\r\n\tb\r\n"), Reason::BadRequest);
    rejected(with_fields("Transfer-Encoding:\r\n chunked\r\n"), Reason::BadRequest);
    rejected(with_fields("X: a\r\n \r\n"), Reason::BadRequest);
}

#[test]
fn rfc9110_5_5_control_characters_in_values_are_rejected() {
    for byte in (0..0x20_u8).chain([0x7f]).filter(|byte| *byte != b'\t' && *byte != b'\r' && *byte != b'\n') {
        for pad in [0, 7, 8, 15, 16, 31, 32, 40] {
            let mut input = with_fields("X: ").into_bytes();
            input.truncate(input.len() - 2);
            input.extend(std::iter::repeat_n(b'a', pad));
            input.push(byte);
            input.extend_from_slice(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n");
            rejected(input, Reason::BadRequest);
        }
    }
    accepted(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\tb \xff\x80\r\n\r\n", |head| {
        assert_eq!(head.fields[1].value, b"a\tb \xff\x80");
    });
}

#[test]
fn rfc9112_6_1_te_and_cl_is_rejected() {
    rejected(with_fields("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), Reason::BadRequest);
    rejected(with_fields("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), Reason::BadRequest);
    rejected(with_fields("content-length: 5\r\nX: y\r\ntransfer-encoding: gzip\r\n"), Reason::BadRequest);
}

#[test]
fn rfc9112_6_1_te_must_be_exactly_chunked() {
    for value in ["chunked", "Chunked", "CHUNKED", "chunked \t"] {
        accepted(with_fields(&format!("Transfer-Encoding: {value}\r\n")), |head| {
            assert_eq!(head.framing, Framing::Chunked);
            assert!(head.fields[1].hop_by_hop);
        });
    }
    for value in [
        "",
        ",",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "chunked, gzip",
        "chunked, identity",
        "chunked;a=b",
        "\"chunked\"",
        "chunked chunked",
        "chun ked",
        "gzip;a=\"x, chunked\"",
        "'chunked' x",
        "chunked\u{a0}",
    ] {
        rejected(with_fields(&format!("Transfer-Encoding: {value}\r\n")), Reason::BadRequest);
    }
    for value in
        ["gzip", "gzip, chunked", "identity", "xchunked", "identity, chunked", "deflate,\tchunked", "'chunked'"]
    {
        rejected(with_fields(&format!("Transfer-Encoding: {value}\r\n")), Reason::NotImplemented);
    }
    for value in ["\u{b}chunked", "chunked\u{b}", "\0chunked"] {
        rejected(with_fields(&format!("Transfer-Encoding: {value}\r\n")), Reason::BadRequest);
    }
}

#[test]
fn rfc9112_6_1_te_on_several_lines_is_one_list() {
    rejected(with_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Reason::BadRequest);
    rejected(with_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), Reason::BadRequest);
    rejected(with_fields("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"), Reason::NotImplemented);
}

#[test]
fn rfc9112_6_1_te_in_http10_is_rejected() {
    rejected("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Reason::BadRequest);
    rejected("POST / HTTP/1.0\r\nTransfer-Encoding: gzip\r\n\r\n", Reason::BadRequest);
}

#[test]
fn rfc9112_6_3_content_length_is_one_number() {
    for (value, length) in [("0", 0), ("5", 5), ("0005", 5), ("9223372036854775807", i64::MAX as u64)] {
        accepted(with_fields(&format!("Content-Length: {value}\r\n")), |head| {
            assert_eq!(head.framing, Framing::Length(length));
        });
    }
    for value in [
        "",
        "+5",
        "-5",
        "-0",
        "5 5",
        "5,5",
        "5, 5",
        "5,",
        "0x5",
        "5.0",
        "5e1",
        "a",
        "5a",
        "９",
        "\"5\"",
        "5;",
        "5\t5",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999",
        "000000000000000000005",
        "184467440737095516165",
    ] {
        rejected(with_fields(&format!("Content-Length: {value}\r\n")), Reason::BadRequest);
    }
}

#[test]
fn rfc9112_6_3_content_length_twice_is_rejected() {
    rejected(with_fields("Content-Length: 5\r\nContent-Length: 6\r\n"), Reason::BadRequest);
    rejected(with_fields("Content-Length: 5\r\nContent-Length: 5\r\n"), Reason::BadRequest);
    rejected(with_fields("Content-Length: 0\r\ncontent-length: 00\r\n"), Reason::BadRequest);
}

#[test]
fn rfc9112_9_3_persistence() {
    for (version, fields, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: foo, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection: , ,\r\n", true),
        ("1.1", "Proxy-Connection: close\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
    ] {
        accepted(format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"), |head| {
            assert_eq!(head.keep_alive, keep_alive, "{version} {fields}");
        });
    }
    for value in ["a b", "close;x", "\"close\"", "é"] {
        rejected(with_fields(&format!("Connection: {value}\r\n")), Reason::BadRequest);
    }
}

#[test]
fn rfc9110_7_6_1_nominated_fields_are_flagged() {
    let fields = "X-A: 1\r\nConnection: x-a , X-B\r\nKeep-Alive: 1\r\nx-b: 2\r\nX-C: 3\r\nConnection: upgrade,x-d\r\nX-D: 4\r\nTE: x\r\nProxy-Authorization: y\r\nTrailer: z\r\n";
    accepted(with_fields(fields), |head| {
        let hop: Vec<_> =
            head.fields.iter().filter(|f| f.hop_by_hop).map(|f| str::from_utf8(f.name).unwrap()).collect();
        assert_eq!(hop, ["X-A", "Connection", "Keep-Alive", "x-b", "Connection", "X-D", "TE", "Proxy-Authorization"]);
    });
}

#[test]
fn rfc9110_7_6_1_host_and_framing_cannot_be_nominated() {
    accepted(with_fields("Connection: host, content-length, close\r\nContent-Length: 5\r\n"), |head| {
        let hop: Vec<_> =
            head.fields.iter().filter(|f| f.hop_by_hop).map(|f| str::from_utf8(f.name).unwrap()).collect();
        assert_eq!(hop, ["Connection"]);
        assert_eq!((head.framing, head.host), (Framing::Length(5), &b"a"[..]));
    });
    accepted(with_fields("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n"), |head| {
        assert_eq!(head.framing, Framing::Chunked);
    });
}

#[test]
fn rfc9110_7_6_1_nominations_are_bounded() {
    let names = |n| (0..n).map(|i| format!("x{i}")).collect::<Vec<_>>().join(",");
    accepted(with_fields(&format!("Connection: {}\r\n", names(32))), |_| ());
    rejected(with_fields(&format!("Connection: {}\r\n", names(33))), Reason::BadRequest);
}

#[test]
fn rfc9110_7_8_upgrade_needs_the_connection_option() {
    for (version, fields, upgrade) in [
        ("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", Some("websocket")),
        ("1.1", "Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n", Some("websocket")),
        ("1.1", "Upgrade: websocket\r\n", None),
        ("1.1", "Connection: upgrade\r\n", None),
        ("1.1", "Connection: upgrade\r\nUpgrade:\r\n", None),
        ("1.1", "Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n", None),
        ("1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n", None),
    ] {
        accepted(format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"), |head| {
            assert_eq!(head.upgrade, upgrade.map(str::as_bytes), "{version} {fields}");
        });
    }
}

#[test]
fn rfc9110_10_1_1_expect() {
    for (version, fields, expected) in [
        ("1.1", "Expect: 100-Continue\r\nContent-Length: 5\r\n", true),
        ("1.1", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", true),
        ("1.1", "Expect: 100-continue\r\n", false),
        ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", false),
        ("1.0", "Expect: 100-continue\r\nContent-Length: 5\r\n", false),
    ] {
        accepted(format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"), |head| {
            assert_eq!(head.expect_continue, expected, "{version} {fields}");
        });
    }
    for value in ["", "200-ok", "100-continue, x", "100-continue;x"] {
        rejected(with_fields(&format!("Expect: {value}\r\n")), Reason::ExpectationFailed);
    }
}

#[test]
fn rfc6585_5_a_large_head_is_rejected_also_while_incomplete() {
    let limits = Limits { head_bytes: 100, ..Limits::default() };
    let parse = |input: &str| {
        let mut slots = Slots::new();
        parse_request(input.as_bytes(), &mut slots, &limits).map(|head| head.map(|head| head.len)).map_err(|r| r.reason)
    };
    let head = |len: usize| format!("{:a<1$}\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: ", len - 4);
    assert_eq!(parse(&head(100)), Ok(Some(100)));
    assert_eq!(parse(&(head(100) + &"b".repeat(1000))), Ok(Some(100)));
    assert_eq!(parse(&head(101)), Err(Reason::HeadTooLarge));
    assert_eq!(parse(&head(101)[..100]), Ok(None));
    assert_eq!(parse(&head(200)[..101]), Err(Reason::HeadTooLarge));
    assert_eq!(parse(&"A".repeat(101)), Err(Reason::HeadTooLarge));
}

#[test]
fn rfc9110_15_5_15_a_long_target_is_rejected_also_while_incomplete() {
    let limits = Limits { target_bytes: 20, ..Limits::default() };
    let parse = |input: &str| {
        let mut slots = Slots::new();
        parse_request(input.as_bytes(), &mut slots, &limits).map(|head| head.is_some()).map_err(|r| r.reason)
    };
    let target = |len: usize| format!("{:a<1$}", "/", len);
    assert_eq!(parse(&format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", target(20))), Ok(true));
    assert_eq!(parse(&format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", target(21))), Err(Reason::TargetTooLong));
    assert_eq!(parse(&format!("GET {}", target(20))), Ok(false));
    assert_eq!(parse(&format!("GET {}", target(21))), Err(Reason::TargetTooLong));
    assert_eq!(parse(&format!("\r\nGET {} HTTP/1.1\r\nHo", target(21))), Err(Reason::TargetTooLong));
    assert_eq!(parse(&format!("GET {} HTTP/1.1\r\nHost: {}", target(20), target(50))), Ok(false));
}

#[test]
fn rfc6585_5_too_many_fields_are_rejected() {
    let head = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(n - 1));
    for (fields, most) in [(10, 10), (128, 128), (u16::MAX, Limits::MAX_FIELDS)] {
        let limits = Limits { fields, ..Limits::default() };
        let input = head(most);
        let mut slots = Slots::new();
        let parsed = parse_request(input.as_bytes(), &mut slots, &limits).unwrap().unwrap();
        assert_eq!(parsed.fields.len(), most);
        let input = head(most + 1);
        let mut slots = Slots::new();
        let reject = parse_request(input.as_bytes(), &mut slots, &limits).unwrap_err();
        assert_eq!(reject.reason, Reason::HeadTooLarge);
    }
}

#[test]
fn slots_can_be_used_again_after_an_incomplete_head() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    let mut slots = Slots::new();
    assert_eq!(parse_request(&input[..30], &mut slots, &Limits::default()), Ok(None));
    let head = parse_request(input, &mut slots, &Limits::default()).unwrap().unwrap();
    assert_eq!(head.fields.len(), 2);
}

#[test]
fn other_protocols_are_rejected_at_once() {
    rejected(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Reason::BadRequest);
    rejected(b"\0\0\0\x08\x04\xd2\x16\x2f", Reason::BadRequest);
    rejected(b"SSH-2.0-x\r\n", Reason::BadRequest);
}
