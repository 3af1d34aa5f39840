//! The places, and who takes tasks from each directly.

mod broker;
mod list;
mod stream;
mod table;

use crate::place::{Place, Source};
use table::Locks;

pub(crate) async fn open(source: Source, at: &str, name: &str) -> Box<dyn Place> {
    match source {
        Source::List => Box::new(list::List::at(at)),
        Source::Rows => Box::new(table::Table::at(at, name, Locks::Rows).await),
        Source::Advisory => Box::new(table::Table::at(at, name, Locks::Advisory).await),
        Source::Stream => Box::new(stream::Stream::at(at, name).await),
        Source::Broker => Box::new(broker::Broker::at(at, name).await),
    }
}
