//! What `weir pool size` prints: a page for people, an object for machines.

use std::fmt::Write as _;

use serde_json::{Value, json};
use weir_pool_core::HumanTime;
use weir_pool_core::sizing::{Answer, Asked, Capacity, Forecast, Need, P99, Question};

/// Columns of a line of prose.
const WIDTH: usize = 100;

/// The page.
pub(super) fn text(question: &Question, answer: &Answer) -> String {
    let plural = if answer.size == 1 { "" } else { "s" };
    let mut page = format!("{} connection{plural}\n\nWhy\n", grouped(f64::from(answer.size), 0));
    for need in &answer.needs {
        let mark = if *need == answer.decided_by { '>' } else { ' ' };
        let _ = writeln!(page, "{mark} {:>6}  {}", need.size, reason(question, need));
    }
    table(&mut page, answer);
    let _ = writeln!(
        page,
        "\nUp to {} acquires/s, the p99 of the wait stays at or below {} with this size.",
        per_second(answer.rate_max),
        HumanTime(question.wait_p99)
    );
    limits(&mut page, question, answer);
    page.push_str("\nBeware\n");
    for warning in &answer.warnings {
        paragraph(&mut page, &format!("{warning}."));
    }
    paragraph(
        &mut page,
        "The hold time is taken as given. If it grows when the pool does, the database is saturated and a larger pool makes it \
         worse: measure it at both sizes, or let the pool adapt its size.",
    );
    page
}

/// Why a demand needs its size.
fn reason(question: &Question, need: &Need) -> String {
    let load = &question.load;
    match need.asked {
        Asked::KeepUp { busy } => format!(
            "to keep up: {} acquires/s x {} = {} busy on average (Little's law)",
            per_second(load.rate()),
            HumanTime(load.hold()),
            grouped(busy, if busy < 1.0 { 3 } else { 1 }),
        ),
        Asked::Wait { p99 } => {
            let variation = match (load.arrival_scv(), load.hold_scv()) {
                (arrival, hold) if (arrival - 1.0).abs() < 1e-9 && (hold - 1.0).abs() < 1e-9 => String::new(),
                (arrival, hold) => format!(", variation of arrivals {arrival:.1}, of holds {hold:.1}"),
            };
            format!("for the wait: 99 of 100 callers wait at most {} (Erlang C{variation})", HumanTime(p99))
        }
        Asked::Burst(burst) => format!(
            "for the burst: {} at once, done in {}: {} one after the other on each connection",
            grouped(f64::from(burst.requests), 0),
            HumanTime(burst.within),
            burst.within.as_nanos() / load.hold().as_nanos().max(1),
        ),
        Asked::Deadlock(tasks) => format!(
            "against deadlock: {} tasks x ({} connections - 1) + 1",
            grouped(f64::from(tasks.tasks), 0),
            tasks.connections_each
        ),
    }
}

/// The sizes around the answer.
fn table(page: &mut String, answer: &Answer) {
    page.push_str("\n    size   in use   have to wait   mean wait    p50 wait    p99 wait\n");
    for row in &answer.around {
        let mark = if row.size == answer.size { '>' } else { ' ' };
        let _ = match row.forecast {
            None => writeln!(page, "{mark} {:>6}        -   cannot keep up: the line grows without end", row.size),
            Some(forecast) => writeln!(
                page,
                "{mark} {:>6}  {:>5} %  {:>11} %  {:>10}  {:>10}  {:>10}",
                row.size,
                percent(forecast.utilisation()),
                percent(forecast.waiting()),
                HumanTime(forecast.mean_wait()),
                HumanTime(forecast.wait(0.5)),
                HumanTime(forecast.wait(P99)),
            ),
        };
    }
}

/// What the database bears, as far as it is known.
fn limits(page: &mut String, question: &Question, answer: &Answer) {
    if answer.shared.is_none() && answer.server.is_none() && answer.fit.is_none() {
        return;
    }
    page.push_str("\nLimits\n");
    if let (Some(server), Some(capacity)) = (question.server, answer.server) {
        let pools = match question.instances {
            1 => format!("this pool may use {}", answer.total),
            instances => format!("{instances} pools of {} may use {}", answer.size, answer.total),
        };
        paragraph(
            page,
            &format!(
                "The database works on about {} at once ({} cores x 2 + {} spindles), {pools}. {}",
                capacity.total,
                server.cores,
                server.spindles,
                with_each(question, &capacity)
            ),
        );
    }
    if let Some(fit) = answer.fit {
        let sharing = fit.sharing;
        let word = if fit.fits { "fits" } else { "does not fit" };
        paragraph(
            page,
            &format!(
                "{} x {} = {} of {} (max_connections {} - {} reserved): {word}. {}",
                question.instances,
                answer.size,
                answer.total,
                sharing.usable(),
                sharing.max_connections,
                sharing.reserved,
                with_each(question, &fit.capacity)
            ),
        );
    }
    if let Some(shared) = answer.shared {
        paragraph(
            page,
            &format!(
                "For the wait alone, one line for all {} instances would need {shared} connections in all, not {}: that is what \
                 a budget shared by the pools can save.",
                question.instances,
                u64::from(wait_size(answer)) * u64::from(question.instances)
            ),
        );
    }
}

fn wait_size(answer: &Answer) -> u32 {
    answer.needs.iter().find(|need| matches!(need.asked, Asked::Wait { .. })).map_or(answer.size, |need| need.size)
}

fn with_each(question: &Question, capacity: &Capacity) -> String {
    let each = if question.instances == 1 { "" } else { " each" };
    match capacity.forecast {
        None => format!("{}{each} could not keep up.", capacity.each),
        Some(forecast) => format!(
            "With {}{each}, {} % would be in use and the p99 of the wait {}.",
            capacity.each,
            percent(forecast.utilisation()),
            HumanTime(forecast.wait(P99))
        ),
    }
}

/// An item of a list, in lines of at most [`WIDTH`].
fn paragraph(page: &mut String, text: &str) {
    let mut line = String::from("  -");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(page, "{line}");
            line = String::from("   ");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(page, "{line}");
}

/// `0.1234` as `12`, `0.0123` as `1.2`, and what is smaller with more digits.
fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p >= 9.95 => format!("{p:.0}"),
        p if p >= 0.1 => format!("{p:.1}"),
        p if p >= 0.001 => format!("{p:.3}"),
        _ => "0".to_owned(),
    }
}

/// A rate, with decimals if it is low.
fn per_second(rate: f64) -> String {
    grouped(
        rate,
        match rate {
            r if r >= 99.95 => 0,
            r if r >= 0.995 => 1,
            _ => 3,
        },
    )
}

/// With commas between thousands.
fn grouped(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::new();
    for (index, digit) in whole.char_indices() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// The object.
pub(super) fn json(question: &Question, answer: &Answer) -> String {
    let load = &question.load;
    let object = json!({
        "size": answer.size,
        "decided_by": answer.decided_by.asked.name(),
        "needs": answer.needs.iter().map(|need| json!({ "asked": need.asked.name(), "size": need.size })).collect::<Vec<_>>(),
        "load": {
            "rate": load.rate(),
            "hold_seconds": load.hold().as_secs_f64(),
            "arrival_scv": load.arrival_scv(),
            "hold_scv": load.hold_scv(),
            "busy": load.busy(),
        },
        "target_wait_p99_seconds": question.wait_p99.as_secs_f64(),
        "forecast": forecast(Some(answer.forecast)),
        "rate_max": answer.rate_max,
        "around": answer
            .around
            .iter()
            .map(|row| json!({ "size": row.size, "forecast": forecast(row.forecast) }))
            .collect::<Vec<_>>(),
        "instances": question.instances,
        "total": answer.total,
        "shared": answer.shared,
        "server": answer.server.as_ref().map(capacity),
        "fit": answer.fit.map(|fit| json!({
            "fits": fit.fits,
            "max_connections": fit.sharing.max_connections,
            "reserved": fit.sharing.reserved,
            "capacity": capacity(&fit.capacity),
        })),
        "warnings": answer
            .warnings
            .iter()
            .map(|warning| json!({ "name": warning.name(), "text": warning.to_string() }))
            .collect::<Vec<_>>(),
    });
    format!("{object:#}\n")
}

fn capacity(capacity: &Capacity) -> Value {
    json!({ "total": capacity.total, "each": capacity.each, "forecast": forecast(capacity.forecast) })
}

/// `null` for a size that cannot keep up.
fn forecast(forecast: Option<Forecast>) -> Value {
    let Some(forecast) = forecast else { return Value::Null };
    json!({
        "utilisation": forecast.utilisation(),
        "waiting": forecast.waiting(),
        "wait_mean_seconds": forecast.mean_wait().as_secs_f64(),
        "wait_p50_seconds": forecast.wait(0.5).as_secs_f64(),
        "wait_p99_seconds": forecast.wait(P99).as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(grouped(0.0, 0), "0");
        assert_eq!(grouped(999.0, 0), "999");
        assert_eq!(grouped(1_000.4, 1), "1,000.4");
        assert_eq!(grouped(1_234_567.0, 0), "1,234,567");
        assert_eq!([1_234.0, 12.34, 0.0123].map(per_second), ["1,234", "12.3", "0.012"]);
        for (share, expected) in [(1.0, "100"), (0.12, "12"), (0.012, "1.2"), (0.000_123, "0.012"), (1e-9, "0")] {
            assert_eq!(percent(share), expected);
        }
    }

    #[test]
    fn lines_are_broken_between_words() {
        let mut page = String::new();
        paragraph(&mut page, &"word ".repeat(40));
        assert!(page.lines().count() > 1 && page.lines().all(|line| line.len() <= WIDTH), "{page}");
        assert_eq!(page.matches("word").count(), 40);
    }
}
