//! HTTP/1.1 as bytes in and events out: heads, framing, bodies, with the hardening of an intermediary.
//!
//! An intermediary that reads a message in another way than its neighbour lets a client smuggle
//! requests past it. So this codec takes the narrow reading everywhere: what RFC 9112 lets a
//! recipient repair, it rejects. What passes is given out as a parsed form, from which the caller
//! writes a new head with [`write`](mod@write); received head bytes are never forwarded as they came.
//!
//! - [`parse_request`] and [`parse_response`] read a head in one pass: lines, words, what they mean to an
//!   intermediary, the framing (RFC 9112 section 6), the target and the host. The tests compare them with `httparse`.
//! - [`BodyReader`] takes a body apart, whatever its framing.
//! - [`write`](mod@write) appends messages to a buffer.
//!
//! Nothing is allocated per message: fields live in [`Slots`] on the caller's stack and borrow the
//! bytes that were read. No state is kept between calls for a head: an incomplete head is presented
//! again from its first byte, with more bytes behind it.
#![forbid(unsafe_code)]

mod body;
mod chunked;
mod facts;
mod field;
mod head;
mod limits;
mod request;
mod response;
mod scan;
mod syntax;
mod target;
pub mod write;

pub use body::{BodyEvent, BodyKind, BodyReader, TrailerBlock, TrailerFields};
pub use field::{Field, FieldKind};
pub use head::{Framing, Reject, RequestMethodFacts, ResponseFraming, Slots, Version};
pub use limits::Limits;
pub use request::{Method, RequestHead, parse_request};
pub use response::{ResponseHead, parse_response};
pub use syntax::{host_without_port, is_valid_authority, is_valid_name, is_valid_value};
pub use target::{Form, Scheme, Target};
