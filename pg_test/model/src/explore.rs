//! Explores an instance to the last state, or to the first fault.

use crate::narrate;
use crate::world::{FINISHES, Instance, SAFE, World};
use anyhow::{Context, Result};
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Distinct states, up to the first fault where there is one.
    pub states: usize,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    Fails {
        how: &'static str,
        /// The shortest way there, in words.
        interleaving: String,
    },
    /// No fault, but there are states after which some session can never end.
    NeverEnds,
}

/// Breadth first, on one thread: the result is always the same, and the way to a fault the shortest one.
pub fn explore(make: impl Fn() -> Instance) -> Result<Outcome> {
    let checker = make().checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let states = checker.unique_state_count();
    if let Some(path) = checker.discovery(SAFE) {
        let mut steps = path.into_vec();
        let (last, _) = steps.pop().context("a path without states")?;
        let steps: Vec<_> = steps.into_iter().filter_map(|(world, action)| Some((world, action?))).collect();
        let instance = make();
        let fault = instance.fault(&last).context("the last state of the path has no fault")?;
        let interleaving = narrate::interleaving(&instance, &steps, &last);
        return Ok(Outcome {
            states,
            verdict: Verdict::Fails { how: narrate::verdict(&fault), interleaving },
        });
    }
    let ends = checker.discovery(FINISHES).is_some() && all_can_always_end(&make());
    Ok(Outcome { states, verdict: if ends { Verdict::Holds } else { Verdict::NeverEnds } })
}

/// Whether from each reachable state one can be reached in which all sessions have ended. Retries make cycles, so that
/// it is not enough that no state is a dead end.
fn all_can_always_end(instance: &Instance) -> bool {
    let mut numbers: HashMap<u64, u32> = HashMap::new();
    let mut predecessors: Vec<Vec<u32>> = Vec::new();
    let mut ended: Vec<u32> = Vec::new();
    let mut pending: Vec<(u32, World)> = Vec::new();
    for world in instance.init_states() {
        numbers.insert(fingerprint(&world), 0);
        predecessors.push(Vec::new());
        pending.push((0, world));
    }
    while let Some((number, world)) = pending.pop() {
        if instance.all_ended(&world) {
            ended.push(number);
        }
        for next in instance.next_states(&world) {
            let fresh = predecessors.len() as u32;
            let known = *numbers.entry(fingerprint(&next)).or_insert(fresh);
            if known == fresh {
                predecessors.push(Vec::new());
                pending.push((fresh, next));
            }
            predecessors[known as usize].push(number);
        }
    }
    let mut reaches = vec![false; predecessors.len()];
    while let Some(number) = ended.pop() {
        if !std::mem::replace(&mut reaches[number as usize], true) {
            ended.extend(&predecessors[number as usize]);
        }
    }
    reaches.into_iter().all(|reaches| reaches)
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = Mixer(0);
    world.hash(&mut hasher);
    hasher.finish()
}

/// A fast hash of 64 bits, the same in each run.
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Flow, Program};
    use crate::properties::Promise;

    #[test]
    fn a_way_of_no_return_is_found() -> Result<()> {
        let explored = |trap: &'static str| {
            let program = Program::new("it").then(|_| Flow::End).or(move |_| Flow::To(trap));
            let program = program.label("once more").then(|_| Flow::End).label("trap");
            let program = program.then(|_| Flow::To("trap"));
            explore(move || Instance::new(vec![program.clone()], Promise::InEverySnapshot))
        };
        assert_eq!(explored("once more")?.verdict, Verdict::Holds);
        assert_eq!(explored("trap")?.verdict, Verdict::NeverEnds);
        Ok(())
    }
}
