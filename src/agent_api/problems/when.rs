//! When each refusal comes, and which settings have a part in it.

use crate::http::Reason;

/// One or two sentences for whoever looks the code up.
pub(super) fn when(reason: &Reason) -> &'static str {
    match reason {
        Reason::BadRequest(_) => {
            "The head, the target or the identity is not one that can be forwarded unchanged (F1, R1, I1). \
             Where the framing is at fault the connection is closed."
        }
        Reason::MissingKey => {
            "`idempotency.required` holds for this write, and it has no `Idempotency-Key` (K2)."
        }
        Reason::InvalidKey(_) => {
            "A key is 1 to 255 characters of visible ASCII, bare or as a structured-field string, sent once (K1)."
        }
        Reason::InvalidPrecondition(_) => {
            "`If-Match` or `If-None-Match` is malformed, or has a weak tag, which could never match (V4)."
        }
        Reason::NoResource(_) => {
            "The route's `resource` is a template, and a part of it found nothing in this write (R6)."
        }
        Reason::NoRoute => "Nothing unmatched is forwarded (R1).",
        Reason::NotFound(_) => {
            "There is nothing of this name under `/.onceward/`, or it is another principal's: both look the same (I2)."
        }
        Reason::MethodNotAllowed(_) => {
            "The route has `methods`, and this is none of them; `Allow` names them (R1)."
        }
        Reason::RequestTimeout(_) => {
            "A head has `limits.head_time`, a body `limits.body_time`. Nothing was claimed (F3, F4)."
        }
        Reason::StaleVersion { .. } => {
            "The precondition was compared in the turn, just before forwarding, and does not hold (V5, V6). The \
             status is 409, so that agents retry, or 412 by `version.stale_status`; the current tag is in \
             `current_etag` and `ETag`, and by `version.include_current` the current body in `current`."
        }
        Reason::InFlight => {
            "The first request with this key runs (K6). `Prefer: wait=N` or `idempotency.in_flight = \"wait\"` waits \
             for its answer."
        }
        Reason::OutcomeUnknown(_) => {
            "The request went to the upstream, and no whole answer came back (K11). How that can end is decided by \
             `idempotency.on_unknown` (K12), or by an operator with `onceward operations resolve` (O4)."
        }
        Reason::ResponseNotKept { .. } => {
            "The answer was a stream or over `idempotency.max_response`, or was let go for `store.max_memory` (K10, \
             S2). `upstream_status` has its status."
        }
        Reason::LeaseLost => {
            "The write shows in `Onceward-Lease` a lease that has ended: by its time, because it was given back, or \
             because an operator broke it. Or it is none of this resource, and nobody holds that (L2, L3)."
        }
        Reason::ClaimLost => "Queues (J3).",
        Reason::Gone => {
            "`[events] history` and `ttl` say how long events are held; an id that never was is gone too (E1)."
        }
        Reason::BodyTooLarge { .. } => "`limits.body` (F3).",
        Reason::UriTooLong { .. } => "`limits.uri` (F4).",
        Reason::HeadersTooLarge(_) => "`limits.head` and `limits.headers` (F4).",
        Reason::KeyReused => {
            "A key stands for one request: method, path, query, content type and body (K3, K5). The first one keeps \
             it, whether it runs or is done."
        }
        Reason::Leased { .. } => {
            "Another lease of the resource is held, and the write shows none or one that is not this agent's; or a \
             lease was asked for, and it did not become free within `Prefer: wait=N` (L1, L2)."
        }
        Reason::MissingPrecondition { .. } => {
            "`version.required` names this method, and the write has no `If-Match` with a tag and no \
             `If-None-Match: *` (V3). `version.allow_any` lets `If-Match: *` pass."
        }
        Reason::QueueFull { .. } | Reason::LeasesFull { .. } => {
            "`queue.max_waiting` writes wait for this resource already (Q2), or one agent holds \
             `leases.max_per_principal` leases (L1)."
        }
        Reason::QueueTimeout { .. } => {
            "No turn within `queue.max_wait` or `Prefer: wait=N` (Q2). A resource rests for `idempotency.settle` \
             after an unknown outcome (Q5)."
        }
        Reason::InternalError(_) => "A fault in Onceward; its log has more.",
        Reason::UpstreamUnreachable(_) => {
            "No connection, so not a byte was sent (K11). The key is free for the same request."
        }
        Reason::VersionUnavailable(_) => {
            "The probe of `version.source` got no version: another status than 200, no strong tag, no such field \
             (V1). The write was not forwarded."
        }
        Reason::UpstreamBrokeOff { .. } | Reason::RequestBrokeOff(_) => {
            "The connection ended before the answer was whole (K11). A retry gets `outcome-unknown`. So it is told, too, \
             where the body of a write without a key ended early, or stopped coming for `limits.body_time`, when a part \
             of it had gone out."
        }
        Reason::UpstreamTimeout { .. } => {
            "`limits.upstream_response`, `limits.upstream_idle` or `limits.upstream_total` passed before the answer \
             was whole (K11). A retry gets `outcome-unknown`."
        }
        Reason::StoreUnavailable => {
            "Writes are not forwarded without the store (S4). `store.on_failure = \"open\"` on a route lets them \
             through unprotected."
        }
        Reason::StoreFull => {
            "`store.max_memory` is full of records, and none of them is dropped before it expires (S2)."
        }
        Reason::ShuttingDown => "`SIGTERM` came; what is in flight is finished (O5).",
        Reason::TooBusy(_) => {
            "`limits.connections`, or `limits.buffered` for longer than `limits.body_time` (F4)."
        }
        Reason::ResultNotStored { .. } => {
            "The result is stored before it is answered (K4), and the store did not take it."
        }
    }
}
