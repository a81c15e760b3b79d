//! Records by filter and by index. Records are given as stored, byte for byte, so that they can be checked.

use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Views;
use super::problem::Problem;
use crate::audit::query::{self, Filter, HealthChecks, Order, Page};
use crate::audit::record::Kind;
use crate::audit::storage::StoreError;
use crate::clock::Timestamp;

/// `GET /v1/records?kind=&subject=&service=&decision=&reason=&from=&to=&path_prefix=&health_checks=&order=&limit=&cursor=`
pub(super) async fn list(State(views): State<Views>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let wanted = Wanted::read(query.as_deref().unwrap_or_default())?;
    let order = wanted.order;
    let page = look(move || {
        let size = views.journal.size();
        query::page(&*views.store, size, &wanted.filter, (wanted.order, wanted.start), wanted.limit)
    })
    .await?;
    Ok(json(page_json(&page, order)))
}

/// `GET /v1/records/{index}`
pub(super) async fn show(State(views): State<Views>, Path(index): Path<String>) -> Result<Response, Problem> {
    let index: u64 = index
        .parse()
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "an index is a whole number from 0 on"))?;
    let size = views.journal.size();
    let record = look(move || if index < size { views.store.record(index) } else { Ok(None) }).await?;
    match record {
        Some(bytes) => Ok(json(bytes)),
        None => Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no record {index}: the log has {size} records, from 0 on"),
        )),
    }
}

/// Asks the store on a thread where it may block.
pub(super) async fn look<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}

pub(super) fn failed(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, "the log could not be read");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the log could not be read; run `portcullis audit verify`",
    )
}

fn json(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

fn page_json(page: &Page, order: Order) -> Vec<u8> {
    let mut out = b"{\"records\":[".to_vec();
    for (at, (_, bytes)) in page.records.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(bytes);
    }
    out.push(b']');
    if let Some(next) = page.next {
        out.extend_from_slice(format!(",\"next\":\"{}\"", cursor(order, next)).as_bytes());
    }
    out.extend_from_slice(b"}\n");
    out
}

/// What a query string asks for.
#[derive(Debug)]
struct Wanted {
    filter: Filter,
    order: Order,
    start: Option<u64>,
    limit: usize,
}

impl Wanted {
    fn read(query: &str) -> Result<Self, Problem> {
        let mut wanted =
            Self { filter: Filter::default(), order: Order::default(), start: None, limit: DEFAULT_LIMIT };
        let (mut cursor_order, mut asked_order) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            let filter = &mut wanted.filter;
            match &*name {
                "kind" => {
                    filter.kind = Some(
                        Kind::parse(&value)
                            .ok_or_else(|| wrong("kind", "the name of a kind, e.g. decision"))?,
                    )
                }
                "subject" => filter.subject = Some(value),
                "service" => filter.service = Some(value),
                "decision" if value == "allow" || value == "deny" => filter.decision = Some(value),
                "decision" => return Err(wrong("decision", "allow or deny")),
                "reason" => filter.reason = Some(value),
                "from" => filter.from = Some(time("from", &value)?),
                "to" => filter.to = Some(time("to", &value)?),
                "path_prefix" => filter.path_prefix = Some(value),
                "health_checks" => {
                    filter.health_checks = HealthChecks::parse(&value)
                        .ok_or_else(|| wrong("health_checks", "exclude, include or only"))?;
                }
                "order" if value == "newest" => asked_order = Some(Order::NewestFirst),
                "order" if value == "oldest" => asked_order = Some(Order::OldestFirst),
                "order" => return Err(wrong("order", "newest or oldest")),
                "limit" => {
                    wanted.limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                        .ok_or_else(|| wrong("limit", "a whole number from 1 to 1000"))?;
                }
                "cursor" => {
                    let (order, start) = read_cursor(&value)
                        .ok_or_else(|| wrong("cursor", "the `next` of an earlier page"))?;
                    cursor_order = Some(order);
                    wanted.start = Some(start);
                }
                unknown => {
                    let known = "kind, subject, service, decision, reason, from, to, path_prefix, health_checks, order, limit, cursor";
                    let detail = format!("there is no parameter {unknown:?}; there are {known}");
                    return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
                }
            }
        }
        // A cursor goes on in the direction it came from.
        if let (Some(cursor), Some(asked)) = (cursor_order, asked_order)
            && cursor != asked
        {
            return Err(wrong("order", "that of the page the cursor came from, or left out"));
        }
        wanted.order = cursor_order.or(asked_order).unwrap_or_default();
        Ok(wanted)
    }
}

fn wrong(name: &str, expected: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, format!("{name} must be {expected}"))
}

fn time(name: &str, value: &str) -> Result<Timestamp, Problem> {
    Timestamp::parse(value)
        .ok_or_else(|| wrong(name, "an RFC 3339 time, e.g. 2026-01-31T12:00:00Z (a + is written %2B)"))
}

fn cursor(order: Order, next: u64) -> String {
    let direction = match order {
        Order::NewestFirst => 'n',
        Order::OldestFirst => 'o',
    };
    format!("{direction}{next}")
}

fn read_cursor(text: &str) -> Option<(Order, u64)> {
    let (direction, index) = text.split_at_checked(1)?;
    let order = match direction {
        "n" => Order::NewestFirst,
        "o" => Order::OldestFirst,
        _ => return None,
    };
    Some((order, index.parse().ok()?))
}

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_whole_or_refused() {
        let wanted =
            Wanted::read("subject=user%3Aalice&decision=deny&from=2026-01-31T12:00:00Z&limit=5&order=oldest")
                .unwrap();
        assert_eq!(wanted.filter.subject.as_deref(), Some("user:alice"));
        assert_eq!((wanted.limit, wanted.order), (5, Order::OldestFirst));
        for bad in [
            "subjct=x",
            "decision=maybe",
            "limit=0",
            "limit=1001",
            "limit=x",
            "from=yesterday",
            "cursor=7",
            "order=up",
            "kind=x",
        ] {
            assert!(Wanted::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cursor_reads_back_and_keeps_its_direction() {
        let cursor = cursor(Order::OldestFirst, 41);
        assert!(Wanted::read(&format!("order=newest&cursor={cursor}")).is_err());
        let wanted = Wanted::read(&format!("cursor={cursor}")).unwrap();
        assert_eq!((wanted.order, wanted.start), (Order::OldestFirst, Some(41)));
    }
}
