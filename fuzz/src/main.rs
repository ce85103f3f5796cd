//! Long runs, see `scripts/fuzz`.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use rookery_cluster::clock::{Clock, Moment, SystemClock};
use rookery_fuzz::corpus;
use rookery_fuzz::run::{Failure, check, mutations};
use rookery_fuzz::targets::{TARGETS, Target};

/// Inputs between two looks at the clock.
const BATCH: usize = 500;
/// An input that has not ended after this hangs. Far above [`rookery_fuzz::run::TIME`]: the machine may be busy.
const HANG: Duration = Duration::from_secs(20);
/// What the process may have resident, bytes: every input's state is dropped with it.
const MEMORY: u64 = 1 << 30;
/// After this many inputs the process has grown as far as it should, but for [`GROWTH`] bytes.
const WARM: usize = 200 * BATCH;
const GROWTH: u64 = 64 << 20;

/// Gives mutated inputs to what Rookery reads, until one goes wrong.
#[derive(Parser)]
struct Options {
    /// Only this target; all in turn, if none is named.
    target: Option<String>,
    /// How long, for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many inputs for each target, however long that takes.
    #[arg(long, conflicts_with = "seconds")]
    inputs: Option<usize>,
    /// The first seed; by default one that is different each time.
    #[arg(long)]
    seed: Option<u64>,
    /// Lists the targets.
    #[arg(long)]
    list: bool,
}

/// When to stop.
#[derive(Clone, Copy)]
enum Limit {
    Time(Duration),
    Inputs(usize),
}

impl Limit {
    fn reached(self, since: Moment, inputs: usize) -> bool {
        match self {
            Limit::Time(limit) => SystemClock.now().since(since) >= limit,
            Limit::Inputs(limit) => inputs >= limit,
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        return ExitCode::SUCCESS;
    }
    let wanted = |target: &&Target| options.target.as_deref().is_none_or(|name| name == target.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(wanted).collect();
    if targets.is_empty() {
        eprintln!("there is no such target; --list names them");
        return ExitCode::from(2);
    }
    let seed = options.seed.unwrap_or_else(|| u64::from(std::process::id()) << 32);
    let limit = match options.inputs {
        Some(inputs) => Limit::Inputs(inputs),
        None => Limit::Time(Duration::from_secs(options.seconds)),
    };
    let good = targets.into_iter().map(|target| fuzz(target, seed, limit)).filter(|good| !good).count() == 0;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether all went well.
fn fuzz(target: &'static Target, mut seed: u64, limit: Limit) -> bool {
    let kept = match corpus::load(target) {
        Ok(kept) => kept,
        Err(why) => {
            eprintln!("{}: the corpus: {why}", target.name);
            return false;
        }
    };
    let current = watched(target);
    let before = |input: &[u8]| *lock(&current) = Some((SystemClock.now(), input.to_vec()));
    let inputs: Vec<Vec<u8>> = kept.into_iter().map(|(_, input)| input).collect();
    for input in &inputs {
        before(input);
        if let Err(failure) = check(target, input) {
            return fails(target, &failure, None);
        }
    }
    let (began, mut count, mut slowest, mut memory) = (SystemClock.now(), 0, Duration::ZERO, Memory::default());
    while !limit.reached(began, count) {
        match mutations(target, &inputs, seed, BATCH, before) {
            Ok(took) => slowest = slowest.max(took),
            Err(failure) => return fails(target, &failure, Some(seed)),
        }
        *lock(&current) = None;
        (seed, count) = (seed.wrapping_add(1), count + BATCH);
        if let Err(why) = memory.look(count) {
            eprintln!("{}: {why} after {count} inputs, seed {seed}", target.name);
            return false;
        }
    }
    let took = SystemClock.now().since(began);
    println!("{}: {count} inputs in {took:.0?}, the slowest {slowest:.0?}, {memory}", target.name);
    true
}

/// What the process has resident, bytes, where the system says so.
#[derive(Default)]
struct Memory {
    warm: u64,
    now: u64,
}

impl Memory {
    /// Fails if it is too much, or more than it was.
    fn look(&mut self, inputs: usize) -> Result<(), String> {
        self.now = resident().unwrap_or(0);
        if inputs <= WARM {
            self.warm = self.warm.max(self.now);
        }
        if self.now > MEMORY || self.now > self.warm + GROWTH { Err(self.to_string()) } else { Ok(()) }
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} MiB resident, {} at first", self.now >> 20, self.warm >> 20)
    }
}

fn fails(target: &Target, failure: &Failure, seed: Option<u64>) -> bool {
    eprintln!("{}: {}\nseed {seed:?}, input:\n{}", target.name, failure.why, corpus::to_hex(&failure.input));
    match corpus::keep(target, &failure.input, &failure.why) {
        Ok(path) => eprintln!("kept as {}", path.display()),
        Err(why) => eprintln!("not kept: {why}"),
    }
    false
}

type Current = Arc<Mutex<Option<(Moment, Vec<u8>)>>>;

/// Where the input that is being tried is put; one that hangs ends the process.
fn watched(target: &'static Target) -> Current {
    let current = Current::default();
    let seen = Arc::downgrade(&current);
    std::thread::spawn(move || {
        while let Some(current) = seen.upgrade() {
            let hung = lock(&current).clone().filter(|(since, _)| SystemClock.now().since(*since) > HANG);
            if let Some((_, input)) = hung {
                fails(target, &Failure { input, why: format!("hangs for more than {HANG:?}") }, None);
                end();
            }
            drop(current);
            std::thread::sleep(HANG / 10);
        }
    });
    current
}

#[expect(clippy::disallowed_methods, reason = "the thread that would return is the one that hangs")]
fn end() -> ! {
    std::process::exit(1)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the process has resident, bytes, where the system says so.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().split(' ').next()?.parse::<u64>().ok()? << 10)
}
