//! Leases: who holds a resource, and what a write is told by it (section L).
//!
//! What is held stands in cells of the store, each change of which is one step of compare and swap, so that any number
//! of instances may make them. A lease is granted in the resource's turn (L4), by who has it; everything else may
//! happen at any time.

mod line;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::http::timestamp::now;
use crate::http::{Reason, fields};
use crate::protocol::event::{self, Audience};
use crate::protocol::lease::{self, Hold, Lease, LeaseId, Named, Standing, Told, Verdict};
use crate::protocol::record::{Owner, Principal, ResourceId, millis};
use crate::store::cells::{Kind, Topic};
use crate::store::{Bells, Cell, CellId, Event, Listening, Put, Store, StoreError, Swap};

use line::Lines;
pub use line::{Place, Waits};

/// How long it is remembered that a lease has ended: as long as the answer that gave it may be replayed by default.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// All leases, as this instance sees them.
pub struct Leases {
    store: Arc<dyn Store>,
    bells: Arc<Bells>,
    lines: Lines,
}

/// A lease that a principal names, and what it holds of it.
pub struct Found {
    pub hold: Hold,
    pub named: Option<Named>,
    pub standing: Option<Standing>,
    /// Of what stands under its digest.
    stamp: Option<Owner>,
}

/// Who a write comes from, and the lease that it shows.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    pub principal: &'a Principal,
    pub lease: Option<LeaseId>,
}

/// The lease that a write shows in `Onceward-Lease` (L2).
///
/// # Errors
/// 400 where it stands twice, or cannot be a lease.
pub fn shown(headers: &HeaderMap) -> Result<Option<LeaseId>, Reason> {
    let lines = fields::lines(headers, &fields::ONCEWARD_LEASE);
    match lines.as_slice() {
        [] => Ok(None),
        [line] => match LeaseId::of(line) {
            Some(id) => Ok(Some(id)),
            None => Err(Reason::BadRequest("The Onceward-Lease header holds no lease.".to_owned())),
        },
        [_, _, ..] => Err(Reason::BadRequest(
            "The Onceward-Lease header stands more than once in the request.".to_owned(),
        )),
    }
}

/// What is told of a lease, to whom its route lets know (E1).
fn told(what: Told, lease: &Lease) -> Option<Event> {
    let kind = match what {
        Told::Granted => event::Kind::LeaseGranted,
        Told::Renewed => event::Kind::LeaseRenewed,
        Told::Released => event::Kind::LeaseReleased,
        Told::Expired => event::Kind::LeaseExpired,
        Told::Broken => event::Kind::LeaseBroken,
    };
    let only = match lease.audience {
        Audience::All => None,
        Audience::Own => Some(lease.principal),
        Audience::Nobody => return None,
    };
    Some(event::Event { only, ..event::Event::new(kind, now(), &lease.resource) }.encoded())
}

fn stamp() -> Owner {
    Owner(fastrand::u64(..) >> 1)
}

fn token_cell(id: LeaseId) -> CellId {
    CellId { kind: Kind::Token, name: id.0 }
}

fn counter(principal: &Principal) -> CellId {
    CellId { kind: Kind::Count, name: lease::counter(principal) }
}

fn put(id: CellId, was: Option<Owner>, to: Option<(Option<Duration>, Box<[u8]>)>) -> Put {
    Put { id, was, to: to.map(|(left, value)| Cell { stamp: stamp(), left, value }), tell: None }
}

/// What stands in a lease's cell.
///
/// # Errors
/// What is not understood here: then nobody knows who holds it.
pub fn read(cell: Option<Cell>) -> Result<Option<Standing>, StoreError> {
    let Some(Cell { stamp, left, value }) = cell else { return Ok(None) };
    let Some(lease) = Lease::decode(&value) else {
        tracing::error!("a lease in the store cannot be read: it was written by another version");
        return Err(StoreError::Unavailable);
    };
    Ok(Some(Standing { stamp, lease, left: left.unwrap_or(Duration::MAX) }))
}

impl Leases {
    /// Over a store.
    pub fn new(store: &Arc<dyn Store>, bells: &Arc<Bells>) -> Arc<Self> {
        Arc::new(Self { store: Arc::clone(store), bells: Arc::clone(bells), lines: Lines::default() })
    }

    /// Who holds a resource, or held it until its time was over.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn standing(&self, resource: ResourceId) -> Result<Option<Standing>, StoreError> {
        read(self.store.cell(CellId::lease(resource), now()).await?)
    }

    /// L2: what a write is told, by what stands in its resource's cell. The fence of the lease that it goes under.
    ///
    /// # Errors
    /// 423 or 409; 503 where the store cannot be asked.
    pub async fn admit(
        &self,
        shown: Shown<'_>,
        resource: ResourceId,
        cell: Option<Cell>,
    ) -> Result<Option<u64>, Reason> {
        let unavailable = |_| Reason::StoreUnavailable;
        let standing = read(cell).map_err(unavailable)?;
        let others = |id| standing.as_ref().filter(|one| one.lives() && !one.is(id, shown.principal));
        let lease = match shown.lease {
            // Whether it ever was one counts only against another's.
            Some(id) if others(id).is_some() => {
                let named = self.named(id).await.map_err(unavailable)?.map(|(_, named)| named);
                let was = named.is_some_and(|named| {
                    named.principal == *shown.principal && ResourceId::new(&named.resource) == resource
                });
                Some((id, was))
            }
            Some(id) => Some((id, true)),
            None => None,
        };
        match lease::of_write(standing.as_ref(), shown.principal, lease) {
            Verdict::Free => Ok(None),
            Verdict::Held { fence } => Ok(Some(fence)),
            Verdict::Leased { seconds } => Err(Reason::Leased { seconds }),
            Verdict::Lost => Err(Reason::LeaseLost),
        }
    }

    async fn named(&self, id: LeaseId) -> Result<Option<(Owner, Named)>, StoreError> {
        let cell = self.store.cell(token_cell(id), now()).await?;
        Ok(cell.and_then(|cell| Some((cell.stamp, Named::decode(&cell.value)?))))
    }

    /// A lease by its name, as its principal sees it.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn find(&self, id: LeaseId, principal: &Principal) -> Result<Found, StoreError> {
        let (stamp, named) = self.named(id).await?.unzip();
        let standing = match &named {
            Some(named) => self.standing(ResourceId::new(&named.resource)).await?,
            None => None,
        };
        let hold = lease::hold(id, principal, named.as_ref(), standing.as_ref());
        Ok(Found { hold, named, standing, stamp })
    }

    /// The lease of this name that is held, whoever holds it: for operators.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn held(&self, id: LeaseId) -> Result<Option<Standing>, StoreError> {
        let Some((_, named)) = self.named(id).await? else { return Ok(None) };
        let standing = self.standing(ResourceId::new(&named.resource)).await?;
        Ok(standing.filter(|standing| standing.lease.id == id && standing.lives()))
    }

    /// Those that are held, at most `most`.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn all(&self, most: usize) -> Result<Vec<Standing>, StoreError> {
        let cells = self.store.cells(Kind::Lease, most, now()).await?;
        let all = cells.into_iter().filter_map(|(_, cell)| read(Some(cell)).ok().flatten());
        Ok(all.filter(Standing::lives).collect())
    }

    /// What makes a lease stand where nothing does: to be committed in the resource's turn (L4).
    ///
    /// # Errors
    /// 429 where its principal holds as many already; 503 where the store cannot be asked.
    pub async fn granting(&self, lease: &Lease, most: u32) -> Result<(Vec<Put>, Option<Event>), Reason> {
        let held = self.count(&lease.principal).await.map_err(|_| Reason::StoreUnavailable)?;
        let Held { was, count } = held;
        if count >= most {
            return Err(Reason::LeasesFull { most });
        }
        let resource = ResourceId::new(&lease.resource);
        let left = Duration::from_millis(lease.asked);
        let named =
            Named { ended: false, principal: lease.principal, resource: lease.resource.clone() }.encode();
        let puts = vec![
            put(CellId::lease(resource), None, Some((Some(left), lease.encode()))),
            put(token_cell(lease.id), None, Some((None, named))),
            put(counter(&lease.principal), was, Some((None, lease::encode_count(count + 1)))),
        ];
        Ok((puts, told(Told::Granted, lease)))
    }

    /// What makes a lease stand for so long from now (L1).
    pub fn renewing(&self, standing: &Standing, ttl: Duration) -> (Vec<Put>, Option<Event>) {
        let lease = Lease { asked: millis(ttl), ..standing.lease.clone() };
        let at = CellId::lease(ResourceId::new(&lease.resource));
        let puts = vec![put(at, Some(standing.stamp), Some((Some(ttl), lease.encode())))];
        (puts, told(Told::Renewed, &lease))
    }

    /// What ends a lease that was found by its name. Who waits for its resource is told.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn ending_found(
        &self,
        standing: &Standing,
        found: &Found,
        what: Told,
    ) -> Result<(Vec<Put>, Option<Event>), StoreError> {
        self.ending_of(standing, found.stamp, what).await
    }

    async fn ending_of(
        &self,
        standing: &Standing,
        named: Option<Owner>,
        what: Told,
    ) -> Result<(Vec<Put>, Option<Event>), StoreError> {
        let lease = &standing.lease;
        let resource = ResourceId::new(&lease.resource);
        let mut ends = put(CellId::lease(resource), Some(standing.stamp), None);
        ends.tell = Some(Topic(lease::topic(resource)));
        let ended = Named { ended: true, principal: lease.principal, resource: lease.resource.clone() };
        let mut puts = vec![ends, put(token_cell(lease.id), named, Some((Some(REMEMBERED), ended.encode())))];
        if let Held { was: Some(was), count } = self.count(&lease.principal).await? {
            let to = (count > 1).then(|| (None, lease::encode_count(count - 1)));
            puts.push(put(counter(&lease.principal), Some(was), to));
        }
        Ok((puts, told(what, lease)))
    }

    /// Swaps what a change of a lease comes to. `false`: something else stands there by now.
    ///
    /// # Errors
    /// Where the store cannot be asked; it may have done it.
    pub async fn swap(&self, (puts, event): (Vec<Put>, Option<Event>)) -> Result<bool, StoreError> {
        self.bells.swap(&*self.store, Swap { puts, event, turn: None }, now()).await
    }

    /// Takes note that a lease ended by its time. `false`: something else stands there by now.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn expire(&self, standing: &Standing) -> Result<bool, StoreError> {
        self.end(standing, Told::Expired).await
    }

    /// Ends a lease. `false`: something else stands there by now.
    ///
    /// # Errors
    /// Where the store cannot be asked; it may have done it.
    pub async fn end(&self, standing: &Standing, what: Told) -> Result<bool, StoreError> {
        let named = self.named(standing.lease.id).await?;
        // Another instance was first: that nothing stands where the lease stood would pass for this swap's own doing.
        if named.as_ref().is_some_and(|(_, named)| named.ended) {
            return Ok(false);
        }
        let stamp = named.map(|(stamp, _)| stamp);
        self.swap(self.ending_of(standing, stamp, what).await?).await
    }

    /// Begins to listen for the end of a resource's lease.
    pub fn listen(&self, resource: ResourceId) -> Listening<'_> {
        self.bells.listen(Topic(lease::topic(resource)))
    }

    /// A fencing token above all that were ever given (L3).
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn next_fence(&self) -> Result<u64, StoreError> {
        self.store.next_fence().await
    }

    /// How many leases a principal holds, those among them whose end nobody has taken note of yet.
    async fn count(&self, principal: &Principal) -> Result<Held, StoreError> {
        let cell = self.store.cell(counter(principal), now()).await?;
        Ok(cell.map_or(Held { was: None, count: 0 }, |cell| Held {
            was: Some(cell.stamp),
            count: lease::decode_count(&cell.value).unwrap_or(0),
        }))
    }
}

/// What stands in a principal's counter.
struct Held {
    was: Option<Owner>,
    count: u32,
}
