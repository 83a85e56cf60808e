//! What the parts of the hot path cost, each on its own: `cargo bench -- NAME`.

mod codec;
mod queue;
mod route;

fn main() {
    let mut criterion = criterion::Criterion::default().configure_from_args();
    codec::decode(&mut criterion);
    codec::encode(&mut criterion);
    queue::hand_over(&mut criterion);
    route::route(&mut criterion);
    criterion.final_summary();
}
