//! The endings, one case each, by the names of the rows of `docs/ENDINGS.md`.

use std::time::Duration;

use super::ending::{Ending, WHOLE, opens_after};
use super::played::play;
use crate::harness::upstream::{Full, Nobody};
use crate::harness::{Gate, Reply};

/// A test for each, and the list of their names.
macro_rules! endings {
    ($($name:ident: $ending:expr;)*) => {
        pub const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[tokio::test]
            async fn $name() {
                play(stringify!($name), $ending).await;
            }
        )*
    };
}

const SOON: &str = "limits.upstream_response = \"300ms\"\nlimits.upstream_idle = \"300ms\"";
const TOTAL: &str = "limits.upstream_total = \"300ms\"";
const LONG: Duration = Duration::from_millis(1500);

// K8, K10, K11, K13, K14, F1, F6, V8, Q5, O5
endings! {
    refused: { let nobody = Nobody::new(); Ending::nowhere(nobody.url(), nobody) };
    // A label of more than 63 letters is no name, so that nobody has to be asked for it.
    unresolved_name: Ending::nowhere(format!("http://{}.invalid", "n".repeat(64)), ());
    connect_timeout: {
        let full = Full::new().await;
        Ending::nowhere(full.url(), full).limits("limits.upstream_connect = \"300ms\"")
    };

    closed_before_the_answer: Ending::reply(Reply::ok(WHOLE).cut());
    reset_before_the_answer: Ending::reply(Reply::ok(WHOLE).cut().reset());
    reset_while_the_body_goes_out: Ending::reply(Reply::ok(WHOLE).cut().reset().early()).while_sending();
    takes_no_more_bytes: Ending::reply(Reply::never().early()).while_sending()
        .limits("limits.upstream_response = \"300ms\"\nlimits.body = \"32MiB\"");
    no_answer_in_time: Ending::reply(Reply::never()).limits(SOON);
    slower_than_the_total: Ending::with(|| Reply::ok(WHOLE).held(&opens_after(LONG))).limits(TOTAL);
    closed_inside_the_head: Ending::verbatim("HTTP/1.1 200 OK\r\nContent-Le");

    head_and_then_silence: Ending::reply(Reply::ok(WHOLE).paused_after(0, &Gate::closed())).limits(SOON);
    body_and_then_silence: Ending::reply(Reply::ok(WHOLE).paused_after(3, &Gate::closed())).limits(SOON);
    trickles_beyond_the_total:
        Ending::with(|| Reply::ok(WHOLE).chunked().trickling(LONG / 12)).limits(TOTAL);
    cut_below_its_length: Ending::reply(Reply::ok(WHOLE).cut_after(3));
    reset_below_its_length: Ending::reply(Reply::ok(WHOLE).cut_after(3).reset());
    cut_inside_a_chunk: Ending::verbatim("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc\r\na wh");
    cut_before_the_last_chunk: Ending::reply(Reply::ok(WHOLE).chunked().cut_after(WHOLE.len()));
    malformed_chunk: Ending::verbatim("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\na whole body\r\n0\r\n\r\n");
    ends_by_closing: Ending::reply(Reply::ok(WHOLE).until_close());
    ends_by_reset: Ending::reply(Reply::ok(WHOLE).until_close().cut_after(3).reset());

    length_and_chunks: Ending::reply(Reply::ok(WHOLE).with_both_framings());
    chunks_in_http_1_0: Ending::verbatim(
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc\r\na whole body\r\n0\r\n\r\n"
    );
    two_lengths: Ending::verbatim("HTTP/1.1 200 OK\r\nContent-Length: 12\r\nContent-Length: 3\r\n\r\na whole body");
    another_transfer_coding:
        Ending::reply(Reply::ok(WHOLE).field("Transfer-Encoding", "gzip").chunked());
    not_http: Ending::verbatim("220 mail.example ESMTP\r\n");
    malformed_field: Ending::verbatim("HTTP/1.1 200 OK\r\nno field at all\r\nContent-Length: 0\r\n\r\n");
    too_many_fields: Ending::reply((0..2000).fold(Reply::ok(WHOLE), |reply, n| reply.field(&format!("x-{n}"), "1")));

    early_answer_and_close: Ending::reply(Reply::new(413).body(WHOLE).early().close()).while_sending();
    early_answer_and_reset: Ending::reply(Reply::new(413).body(WHOLE).early().reset()).while_sending();
    early_answer_and_reads_on: Ending::reply(Reply::new(413).body(WHOLE).early()).while_sending();
    early_success_and_reads_on: Ending::reply(Reply::new(200).body(WHOLE).early()).while_sending();

    bytes_behind_the_end: Ending::reply(Reply::ok(WHOLE).extra("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"));
    status_100_first: Ending::reply(Reply::new(201).body(WHOLE).interim("100 Continue"));
    status_103_first: Ending::reply(Reply::new(201).body(WHOLE).interim("103 Early Hints"));
    many_interim_heads:
        Ending::reply((0..200).fold(Reply::new(201).body(WHOLE), |reply, _| reply.interim("102 Processing")));
    interim_and_then_close: Ending::verbatim("HTTP/1.1 103 Early Hints\r\n\r\n");
    interim_and_then_silence:
        Ending::reply(Reply::verbatim("HTTP/1.1 100 Continue\r\n\r\n").then_silent()).limits(SOON);
    switches_unasked:
        Ending::verbatim("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nhello");

    status_204_with_a_body: Ending::reply(Reply::new(204).field("Content-Length", "4").extra("evil")).carries("");
    status_304: Ending::reply(Reply::new(304)).carries("");
    answers_head_with_a_body: Ending::reply(Reply::ok("").field("Content-Length", "4").extra("evil")).asked_by_head();
    status_404: Ending::reply(Reply::new(404).body(WHOLE));
    status_412: Ending::reply(Reply::new(412).body(WHOLE));
    status_500: Ending::reply(Reply::new(500).body(WHOLE));
    status_502: Ending::reply(Reply::new(502).body(WHOLE));
    status_503: Ending::reply(Reply::new(503).body(WHOLE));
    status_504: Ending::reply(Reply::new(504).body(WHOLE));

    large_body: Ending::reply(Reply::ok(large())).carries(large());
    large_and_cut: Ending::reply(Reply::ok(large()).chunked().cut_after(3000));
    large_and_then_silence: Ending::reply(Reply::ok(large()).chunked().paused_after(3000, &Gate::closed())).limits(SOON);
    large_and_cut_below_its_length: Ending::reply(Reply::ok(large()).cut_after(3000));
    large_with_status_503: Ending::reply(Reply::new(503).body(large())).carries(large());
    whole_stream: Ending::reply(stream()).carries("data: 1\n\n");
    stream_that_breaks_off: Ending::reply(stream().cut_after(4));
    stream_beyond_the_total: Ending::with(|| stream().trickling(LONG / 12)).limits(TOTAL).carries("data: 1\n\n");
    stream_with_status_502: Ending::reply(stream().with_status(502)).carries("data: 1\n\n");

    kept_connection_already_closed: Ending::reply(Reply::ok(WHOLE)).kept_after(Reply::ok("ok").cut_after(2));
    kept_connection_told_408: Ending::reply(Reply::ok(WHOLE)).kept_after(Reply::verbatim(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n"
    ));
    kept_connection_closes_meanwhile: Ending::reply(Reply::ok(WHOLE).cut().reset()).kept_after(Reply::ok("ok"));

    shutdown_before_the_answer: Ending::reply(Reply::never()).at_shutdown();
    shutdown_inside_the_body: Ending::reply(Reply::ok(WHOLE).paused_after(3, &Gate::closed())).at_shutdown();
    shutdown_inside_a_stream: Ending::reply(stream().paused_after(4, &Gate::closed())).at_shutdown();
}

/// More than `idempotency.max_response` and `version.max_body` of both routes.
fn large() -> String {
    "x".repeat(5000)
}

fn stream() -> Reply {
    Reply::ok("data: 1\n\n").field("Content-Type", "text/event-stream").chunked()
}
