use bench_pool::{cell::*, load, peers};
#[global_allocator]
static G: bench_pool::allocations::Counting = bench_pool::allocations::Counting;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let spec = Spec { use_of: Use::parse(&a[2]).unwrap(), tasks: a[3].parse().unwrap(), size: a[4].parse().unwrap(), warm_up: std::time::Duration::from_millis(300), window: std::time::Duration::from_millis(1000), server: None };
    let r = match a[1].as_str() {
        "weir" => load::run_async::<peers::Weir>(&spec),
        "bb8" => load::run_async::<peers::Bb8>(&spec),
        "deadpool" => load::run_async::<peers::Deadpool>(&spec),
        "mobc" => load::run_async::<peers::Mobc>(&spec),
        "sqlx" => load::run_async::<peers::Sqlx>(&spec),
        _ => load::run_threads::<peers::R2d2>(&spec),
    }.unwrap();
    let n: u64 = r.per_task.iter().sum();
    println!("{} {:.2} Mops {:.0} ns alloc {:?} min/max {:?}/{:?} open {} peak {} ow {} err {} {:?}", a[1], n as f64 / (r.elapsed_nanos as f64 / 1e3), r.cpu_nanos as f64 / n as f64, r.allocations, r.per_task.iter().min(), r.per_task.iter().max(), r.open, r.peak, r.open_waits.len(), r.errors, r.error);
}
