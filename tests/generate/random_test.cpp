#include "generate/random.h"

#include <gtest/gtest.h>

#include <set>

namespace tessera {
namespace {

TEST(philox, gives_the_known_answers_of_its_paper) {  // Random123's kat_vectors
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t f = 0xffffffff;
  EXPECT_EQ(philox({f, f, f, f}, {f, f}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(uniform, depends_on_seed_sample_and_position) {
  std::set<double> draws;
  for (uint64_t seed : {0, 1})
    for (uint64_t sample : {0, 1})
      for (uint64_t position : {0, 1, 2}) {
        const double draw = uniform(seed, sample, position);
        EXPECT_GE(draw, 0.0);
        EXPECT_LT(draw, 1.0);
        draws.insert(draw);
      }
  EXPECT_EQ(draws.size(), 12u);
  EXPECT_EQ(uniform(7, 3, 5), uniform(7, 3, 5));
}

}  // namespace
}  // namespace tessera
