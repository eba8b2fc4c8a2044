//! What the board starts into after a cut, at which operation of an update ever.

use anyhow::Result;
use scenarios::an505::power::live;
use scenarios::an505::power::story::{self, Story};
use scenarios::an505::power::suite::{Plan, try_cuts};
use scenarios::world::World;

const SEED: u64 = 0x5eed_0001;
/// One mode of each operation, some of the bodies, and the recoveries of two.
const PLAN: Plan = Plan { seed: SEED, all_modes: false, data: Some(32), recoveries: 2, machines: 2 };

#[tokio::test]
async fn power_may_fail_at_any_operation_of_an_applications_update() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("power").await?;
    tried(&world, story::of_the_application(&world, &flash, SEED).await?).await
}

#[tokio::test]
async fn power_may_fail_at_any_operation_of_a_microvisors_update() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("power-microvisor").await?;
    tried(&world, story::of_the_microvisor(&world, &flash, SEED).await?).await
}

async fn tried(world: &World, story: Story) -> Result<()> {
    let name = story.name;
    let counts = try_cuts(story, PLAN, &world.stack.dir().join("logs")).await?;
    dev::leave_report(&name.replace(' ', "-"), &format!("{counts}\n"))
}

#[tokio::test]
async fn an_update_that_is_cut_eight_times_is_online_after_each_and_ends_confirmed() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("cut-eight-times").await?;
    let device = story::first_version(&world, &flash).await?;
    let bundle = story::application(&world, "2.0.0", 2).await?;
    let cuts = live::of_an_application();
    live::cut_under_way(&world, &flash, &device, (&bundle, "2.0.0", 2), &cuts, SEED).await
}
