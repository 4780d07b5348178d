//! The grantor's API as seen from a member: two small requests, each on a connection of its own, so that a refused connection
//! is seen at once.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use weir_pool_core::budget::{Claim, Grant};

use crate::words::plain;

/// Bytes of an answer at most.
pub(crate) const ANSWER_BYTES: usize = 16 * 1_024;
/// Fields of its head at most.
const FIELDS: usize = 32;

/// Where to.
#[derive(Clone, Copy)]
pub(super) struct To<'a> {
    pub(super) at: &'a str,
    pub(super) budget: &'a str,
    pub(super) token: Option<&'a str>,
}

/// No grant.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody listens at any of its addresses.
    Refused,
    /// Anything else; the text says what.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("nobody listens at its address"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// Claims a share. An answer that brings no news may be kept back for as long as `patience`.
///
/// # Cancel safety
/// Dropped, it closes its connection; the claim may still be read.
pub(super) async fn claim(to: &To<'_>, member: &str, claim: &Claim, patience: Duration) -> Result<Grant, Failure> {
    let Claim { seq, held, floor_held, floor, weight, demand, max } = claim;
    let demand = f64::from(demand.as_milli()) / 1_000.0;
    let wait = patience.as_millis();
    let body = format!(
        "{{\"member\":\"{member}\",\"seq\":{seq},\"held\":{held},\"floor_held\":{floor_held},\"floor\":{floor},\
         \"weight\":{weight},\"demand\":{demand},\"max\":{max},\"wait_ms\":{wait}}}"
    );
    let path = format!("/v1/budget/{}/renew", to.budget);
    read_grant(&exchange(to, "POST", &path, &body).await?)
}

/// Leaves.
pub(super) async fn leave(to: &To<'_>, member: &str, seq: u64) -> Result<(), Failure> {
    let path = format!("/v1/budget/{}/{member}?seq={seq}", to.budget);
    exchange(to, "DELETE", &path, "").await.map(drop)
}

async fn connect(at: &str) -> Result<TcpStream, Failure> {
    let (mut refused, mut other) = (false, None);
    for address in lookup_host(at).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => refused = true,
            Err(error) => other = Some(format!("{address}: {error}")),
        }
    }
    match other {
        None if refused => Err(Failure::Refused),
        other => Err(Failure::Other(other.unwrap_or_else(|| format!("{at} has no address")))),
    }
}

async fn exchange(to: &To<'_>, method: &str, path: &str, body: &str) -> Result<Vec<u8>, Failure> {
    let mut stream = connect(to.at).await?;
    let authorization = to.token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {}\r\n{authorization}content-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        to.at,
        body.len(),
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // One more than is taken, so that what is too long is known to be.
    stream.take(ANSWER_BYTES as u64 + 1).read_to_end(&mut answer).await?;
    judge(&answer).map(<[u8]>::to_vec)
}

/// The body of an answer that says yes.
pub(crate) fn judge(answer: &[u8]) -> Result<&[u8], Failure> {
    if answer.len() > ANSWER_BYTES {
        return Err(Failure::Other(format!("not an answer of a grantor: longer than {ANSWER_BYTES} bytes")));
    }
    let (status, body) = split(answer)?;
    if (200..=299).contains(&status) {
        return Ok(body);
    }
    let said = serde_json::from_slice::<serde_json::Value>(body).ok();
    let said = said.as_ref().and_then(|said| said["message"].as_str()).map_or("no reason given".to_owned(), plain);
    Err(Failure::Other(format!("status {status}: {said}")))
}

/// Status and body; the body must be as long as announced.
fn split(answer: &[u8]) -> Result<(u16, &[u8]), Failure> {
    let wrong = |what: &str| Failure::Other(format!("not an answer of a grantor: {what}"));
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let parsed = head.parse(answer).map_err(|error| wrong(&error.to_string()))?;
    let httparse::Status::Complete(length) = parsed else { return Err(wrong("it ends in its head")) };
    let body = answer.get(length..).unwrap_or_default();
    let announced = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let announced = announced.and_then(|field| std::str::from_utf8(field.value).ok()?.trim().parse::<usize>().ok());
    if announced.is_some_and(|announced| announced != body.len()) {
        return Err(wrong("it is cut off"));
    }
    Ok((head.code.unwrap_or_default(), body))
}

pub(crate) fn read_grant(body: &[u8]) -> Result<Grant, Failure> {
    let json: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| Failure::Other(format!("not a grant: {error}")))?;
    let number = |key: &str| json[key].as_u64().ok_or_else(|| Failure::Other(format!("not a grant: no {key}")));
    let count = |key: &str| number(key).map(|value| u32::try_from(value).unwrap_or(u32::MAX));
    let time = |key: &str| number(key).map(Duration::from_millis);
    Ok(Grant {
        share: count("share")?,
        floor: count("floor")?,
        lease: time("lease_ms")?,
        floor_lease: time("floor_lease_ms")?,
        renew_after: time("renew_after_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Result<Grant, String> {
        let (status, body) = split(text.as_bytes()).map_err(|failure| failure.to_string())?;
        assert_eq!(status, 200);
        read_grant(body).map_err(|failure| failure.to_string())
    }

    #[test]
    fn answers_are_read_and_nonsense_is_not() {
        let body = r#"{"share":7,"floor":1,"lease_ms":10000,"floor_lease_ms":60000,"renew_after_ms":250,"more":[]}"#;
        let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let grant = answer(&whole).unwrap();
        assert_eq!((grant.share, grant.floor, grant.renew_after), (7, 1, Duration::from_millis(250)));
        for cut in 1..whole.len() {
            assert!(answer(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(answer("HTTP/1.1 200 OK\r\n\r\n{\"share\":-1}").unwrap_err().contains("no share"));
        assert!(answer("SSH-2.0-x\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_refuses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        drop(listener);
        assert!(matches!(connect(&at).await, Err(Failure::Refused)));
        assert!(matches!(connect("no-such-host.invalid:1").await, Err(Failure::Other(_))));
    }
}
