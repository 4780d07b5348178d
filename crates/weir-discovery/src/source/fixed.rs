//! `static`: a list of addresses that does not change. Says it once.

use std::sync::Arc;

use weir_core::Address;

use super::{Context, Event, Following, Row, Source, Spec};

pub(crate) const ROW: Row = Row {
    name: "static",
    summary: "Addresses as written in the configuration.",
    follow: |source, context| follow(source, context),
};

fn follow(source: Source, context: Context) -> Following {
    Box::pin(async move {
        let Spec::Static(list) = source.spec else {
            return;
        };
        let mut list: Vec<Address> = list.to_vec();
        list.sort_unstable();
        list.dedup();
        let list: Arc<[Address]> = list.into();
        if source.known.as_ref() != Some(&list) {
            context.send(source.id, Event::Addresses(list)).await;
        }
    })
}
