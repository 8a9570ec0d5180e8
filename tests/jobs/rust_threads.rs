//! Threads of Rust's standard library: scoped and spawned ones, channels, mutexes, condition variables, parking, timed
//! waits, panics that are caught by join.
//!
//! Results are put in order before they are printed. Compiled alone: `rustc -O rust_threads.rs`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread;
use std::time::Duration;

const WORKERS: usize = 4;

thread_local! {
    static DONE: Cell<u64> = const { Cell::new(0) };
}

/// A number that depends on many small allocations.
fn compute(item: u64) -> u64 {
    let mut words = BTreeMap::new();
    let mut state = item.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..20_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        words.entry(format!("{:03x}", state & 0xfff)).or_insert_with(Vec::new).push(state >> 32);
    }
    words.iter().fold(item, |sum, (word, numbers)| {
        let numbers = numbers.iter().fold(0u64, |sum, number| sum.rotate_left(5) ^ number);
        sum.wrapping_mul(1_000_003) ^ numbers ^ word.len() as u64
    })
}

fn main() -> ExitCode {
    let scale: f64 = std::env::var("ZAP_JOB_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let items = (1600.0 * scale) as u64;
    let (task_in, task_out) = sync_channel::<u64>(16);
    let task_out = Arc::new(Mutex::new(task_out));
    let (result_in, result_out) = channel::<(u64, u64)>();
    let counted = Arc::new(RwLock::new([0u64; WORKERS]));
    let ended = Arc::new((Mutex::new(0), Condvar::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let ticks = Arc::new(AtomicU64::new(0));

    let ticker = {
        let (stop, ticks) = (stop.clone(), ticks.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                thread::park_timeout(Duration::from_millis(5));
                ticks.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let (task_out, result_in) = (task_out.clone(), result_in.clone());
            let (counted, ended) = (counted.clone(), ended.clone());
            let run = move || {
                loop {
                    let Ok(item) = task_out.lock().unwrap().recv() else { break };
                    result_in.send((item, compute(item))).unwrap();
                    DONE.set(DONE.get() + 1);
                }
                counted.write().unwrap()[number] = DONE.get();
                *ended.0.lock().unwrap() += 1;
                ended.1.notify_all();
            };
            thread::Builder::new().name(format!("worker {number}")).spawn(run).unwrap()
        })
        .collect();
    drop(result_in);
    let feeder = thread::spawn(move || (0..items).for_each(|item| task_in.send(item).unwrap()));

    let mut waiting = BTreeMap::new();
    let (mut expected, mut total) = (0, 0u64);
    for (item, number) in result_out {
        waiting.insert(item, number);
        while let Some(number) = waiting.remove(&expected) {
            total = total.wrapping_mul(1_000_003) ^ number;
            expected += 1;
            if expected % (items / 10).max(1) == 0 {
                println!("{expected} items, {total:016x}");
            }
        }
    }
    let all_ended = ended.1.wait_while(ended.0.lock().unwrap(), |ended| *ended < WORKERS).unwrap();
    drop(all_ended);
    feeder.join().unwrap();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    stop.store(true, Ordering::SeqCst);
    ticker.thread().unpark();
    ticker.join().unwrap();

    std::panic::set_hook(Box::new(|_| ()));
    let caught = thread::spawn(|| panic!("thrown away")).join().is_err();
    let borrowed = thread::scope(|scope| scope.spawn(|| counted.read().unwrap().iter().sum::<u64>()).join().unwrap());
    if !caught || borrowed != items || expected != items {
        println!("FAIL: {borrowed} and {expected} of {items} items, panic caught: {caught}");
        return ExitCode::from(1);
    }
    println!("result: {items} items by {WORKERS} threads, {total:016x}");
    ExitCode::from(16)
}
