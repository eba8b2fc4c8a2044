//! What the board starts into after a cut, at which operation of an update ever.

use anyhow::Result;
use scenarios::an505::power::story;
use scenarios::an505::power::suite::{Plan, try_cuts};
use scenarios::world::World;

const SEED: u64 = 0x5eed_0001;
/// One mode of each operation, some of the bodies, and the recoveries of two.
const PLAN: Plan = Plan { seed: SEED, all_modes: false, data: Some(32), recoveries: 2, machines: 2 };

#[tokio::test]
async fn power_may_fail_at_any_operation_of_an_applications_update() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("power").await?;
    let story = story::of_the_application(&world, &flash, SEED).await?;
    let counts = try_cuts(story, PLAN, &world.stack.dir().join("logs")).await?;
    println!("{counts}");
    Ok(())
}
