//! Pools as OTLP.

use std::time::Duration;

use super::wire::{
    AnyValue, CUMULATIVE, Data, ExportRequest, Histogram, HistogramPoint, KeyValue, Metric, Number, NumberPoint,
    Resource, ResourceMetrics, Scope, ScopeMetrics, Sum,
};
use crate::metrics::Reading;
use crate::metrics::family::{FAMILIES, Family, POOL, Point, Values, buckets};

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { text: Some(value.to_owned()) }) }
}

/// All metrics of `pools` at `now`, in nanoseconds of Unix time, of the service that `resource` describes.
pub(super) fn request(pools: &[Reading], resource: &[(String, String)], now: u64) -> ExportRequest {
    let metrics = FAMILIES.iter().filter_map(|family| metric(family, pools, now)).collect();
    let scope = Scope { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let attributes = resource.iter().map(|(key, value)| attribute(key, value)).collect();
    let resource_metrics = ResourceMetrics {
        resource: Some(Resource { attributes }),
        scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics }],
    };
    ExportRequest { resource_metrics: vec![resource_metrics] }
}

/// `None` if no pool has a value.
fn metric(family: &Family, pools: &[Reading], now: u64) -> Option<Metric> {
    let data = match family.values {
        Values::Level(of) => sum(false, points(pools, of, now)),
        Values::Count(of) => sum(true, points(pools, of, now)),
        Values::Time(of) => {
            let point = |pool| number(pool, None, Number::Double(of(pool).as_secs_f64()), now);
            sum(true, pools.iter().map(point).collect())
        }
        Values::Times(of) => {
            let data_points = pools.iter().map(|pool| histogram(pool, of(pool), now)).collect();
            Data::Histogram(Histogram { data_points, aggregation_temporality: CUMULATIVE })
        }
    };
    let (name, description) = (family.name.to_owned(), family.help.to_owned());
    let unit = family.unit.to_owned();
    (!data.is_empty()).then_some(Metric { name, description, unit, data: Some(data) })
}

fn sum(is_monotonic: bool, data_points: Vec<NumberPoint>) -> Data {
    Data::Sum(Sum { data_points, aggregation_temporality: CUMULATIVE, is_monotonic })
}

fn points(pools: &[Reading], of: fn(&Reading) -> Vec<Point>, now: u64) -> Vec<NumberPoint> {
    let of_pool = |pool| {
        let number =
            move |(word, value): Point| number(pool, word, Number::Int(i64::try_from(value).unwrap_or(i64::MAX)), now);
        of(pool).into_iter().map(number)
    };
    pools.iter().flat_map(of_pool).collect()
}

fn number(pool: &Reading, word: Option<(&str, &str)>, value: Number, now: u64) -> NumberPoint {
    let mut attributes = vec![attribute(POOL, &pool.name)];
    attributes.extend(word.map(|(key, value)| attribute(key, value)));
    NumberPoint { attributes, start_time_unix_nano: pool.began, time_unix_nano: now, value: Some(value) }
}

fn histogram(pool: &Reading, times: &weir_pool_core::Histogram, now: u64) -> HistogramPoint {
    let mut explicit_bounds = Vec::new();
    let mut bucket_counts = Vec::new();
    let mut below = 0;
    for (bound, count) in buckets(times) {
        explicit_bounds.push(Duration::from_nanos(bound).as_secs_f64());
        bucket_counts.push(count - below);
        below = count;
    }
    let count = times.count();
    bucket_counts.push(count - below);
    HistogramPoint {
        attributes: vec![attribute(POOL, &pool.name)],
        start_time_unix_nano: pool.began,
        time_unix_nano: now,
        count,
        sum: Some(times.sum().as_secs_f64()),
        bucket_counts,
        explicit_bounds,
        max: (count > 0).then(|| times.max().as_secs_f64()),
    }
}
