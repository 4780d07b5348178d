//! What reading a head costs: this crate (lines, words, classification, framing, host) beside `httparse` (lines and
//! words only, so less work). `cargo run --release -p weir-proxy --example heads` prints nanoseconds per head; under
//! `valgrind --tool=callgrind`, with the name of one row as argument, the instructions can be counted.

#![allow(clippy::print_stdout, reason = "a program for the command line")]

use std::hint::black_box;
use std::time::Instant;

use weir_http::{Limits, RequestMethodFacts, Slots, parse_request, parse_response};

const ROUNDS: u32 = 200_000;

const SMALL_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
const BROWSER_REQUEST: &[u8] = b"GET /assets/app.7c2f.js?v=12 HTTP/1.1\r\nHost: www.example.org\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://www.example.org/start\r\nConnection: keep-alive\r\n\
Cookie: sid=5c1f0c0b7b7d4d3f9a2f; theme=dark\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\n\
Sec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\nPriority: u=0, i\r\n\r\n";
const SERVER_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
Content-Type: text/html; charset=utf-8\r\nContent-Length: 1024\r\nLast-Modified: Sat, 05 Nov 1994 10:00:00 GMT\r\n\
Connection: keep-alive\r\nETag: \"2ebb0c40-400\"\r\nCache-Control: max-age=600\r\nAccept-Ranges: bytes\r\n\r\n";

struct Row {
    name: &'static str,
    read: fn(),
}

const ROWS: &[Row] = &[
    Row { name: "small_request/weir", read: || request(SMALL_REQUEST) },
    Row { name: "small_request/httparse", read: || request_lines(SMALL_REQUEST) },
    Row { name: "browser_request/weir", read: || request(BROWSER_REQUEST) },
    Row { name: "browser_request/httparse", read: || request_lines(BROWSER_REQUEST) },
    Row { name: "server_response/weir", read: || response(SERVER_RESPONSE) },
    Row { name: "server_response/httparse", read: || response_lines(SERVER_RESPONSE) },
];

fn main() {
    let only = std::env::args().nth(1);
    for row in ROWS.iter().filter(|row| only.as_deref().is_none_or(|only| only == row.name)) {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            (row.read)();
        }
        println!("{:28} {:6} ns", row.name, start.elapsed().as_nanos() / u128::from(ROUNDS));
    }
}

fn request(bytes: &[u8]) {
    let mut slots = Slots::new();
    black_box(parse_request(black_box(bytes), &mut slots, &Limits::default()).is_ok_and(|head| head.is_some()));
}

fn request_lines(bytes: &[u8]) {
    let mut raw = [const { std::mem::MaybeUninit::uninit() }; 100];
    let mut request = httparse::Request::new(&mut []);
    black_box(request.parse_with_uninit_headers(black_box(bytes), &mut raw).is_ok());
}

fn response(bytes: &[u8]) {
    let mut slots = Slots::new();
    let facts = RequestMethodFacts::default();
    black_box(parse_response(black_box(bytes), &mut slots, &Limits::default(), facts).is_ok_and(|head| head.is_some()));
}

fn response_lines(bytes: &[u8]) {
    let mut raw = [const { std::mem::MaybeUninit::uninit() }; 100];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    black_box(config.parse_response_with_uninit_headers(&mut response, black_box(bytes), &mut raw).is_ok());
}
