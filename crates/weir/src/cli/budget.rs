//! `weir budget`: asks a running grantor who holds what.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::{BudgetOptions, fail, print};

/// Connecting and each wait for bytes.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the answer at most: far more than the members of a budget make.
const ANSWER_BYTES: u64 = 4 << 20;

/// `weir budget`
pub(crate) fn show(options: &BudgetOptions) -> ExitCode {
    if !weir_pool_core::budget::is_name(&options.name) {
        return fail(&format!("`{}` cannot be the name of a budget", options.name));
    }
    let token = match options.token_file.as_ref().map(std::fs::read_to_string).transpose() {
        Ok(token) => token.map(|token| token.trim().to_owned()),
        Err(error) => return fail(&format!("the token file: {error}")),
    };
    let (status, body) = match ask(options, token.as_deref()) {
        Ok(answer) => answer,
        Err(error) => {
            return fail(&format!(
                "{}: {error}; is a weir with `[budget.{}]` running there?",
                options.at, options.name
            ));
        }
    };
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    if status != 200 {
        let said = answer["message"].as_str().unwrap_or("not an answer of a grantor");
        return fail(&format!("{}: {said} (status {status})", options.at));
    }
    if options.json {
        return print(&(body + "\n"));
    }
    print(&table(&answer))
}

fn ask(options: &BudgetOptions, token: Option<&str>) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&options.at, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "GET /v1/budget/{} HTTP/1.1\r\nHost: {}\r\n{authorization}Connection: close\r\n\r\n",
        options.name, options.at
    );
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut text)?;
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    match (status, text.split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Ok((status, body.to_owned())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not an answer of HTTP/1.1")),
    }
}

fn table(budget: &Value) -> String {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let mut out = format!(
        "budget {}: {} of {} connections held, {} free",
        budget["name"].as_str().unwrap_or_default(),
        number(&budget["held"]),
        number(&budget["connections"]),
        number(&budget["free"]),
    );
    if number(&budget["unknown"]) > 0 {
        let _ = write!(out, ", {} set aside for pools from before the start", number(&budget["unknown"]));
    }
    out.push('\n');
    let members = budget["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    if members.is_empty() {
        out.push_str("no pool has asked for a share\n");
        return out;
    }
    let name = |member: &Value| member["name"].as_str().unwrap_or_default().to_owned();
    let width = members.iter().map(|member| name(member).len()).max().unwrap_or_default().max("pool".len());
    let _ = writeln!(out, "{:width$}  share   held demand  floor weight  heard", "pool");
    for member in members {
        let column = |key: &str| number(&member[key]);
        let _ = writeln!(
            out,
            "{:width$} {:6} {:6} {:6} {:6} {:6}  {:.1} s ago{}",
            name(member),
            column("share"),
            column("held"),
            column("demand"),
            column("floor"),
            column("weight"),
            column("heard_ms") as f64 / 1_000.0,
            if member["silent"] == true { ", silent" } else { "" },
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_pool() {
        let member = serde_json::json!({
            "name": "checkout-1", "share": 30, "held": 31, "demand": 40, "floor": 1, "weight": 1, "heard_ms": 340, "silent": false
        });
        let budget = serde_json::json!({
            "name": "db", "held": 31, "connections": 40, "free": 7, "unknown": 2, "members": [member]
        });
        let expected = "budget db: 31 of 40 connections held, 7 free, 2 set aside for pools from before the start\n\
                        pool        share   held demand  floor weight  heard\n\
                        checkout-1     30     31     40      1      1  0.3 s ago\n";
        assert_eq!(table(&budget), expected);
    }
}
