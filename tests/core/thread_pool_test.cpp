#include "core/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace tessera {
namespace {

TEST(thread_pool, runs_every_piece_once) {
  for (int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (int64_t pieces : {0, 1, 2, 3, 1000}) {
      std::vector<std::atomic<int>> count(static_cast<size_t>(pieces));
      pool.parallel_for(pieces, [&](int64_t piece, int worker) {
        EXPECT_LT(worker, threads);
        ++count[static_cast<size_t>(piece)];
      });
      for (const auto& c : count) EXPECT_EQ(c, 1);
    }
  }
}

TEST(thread_pool, makes_the_pieces_writes_visible_over_many_jobs) {
  ThreadPool pool(4);
  std::vector<int64_t> values(64);
  for (int job = 0; job < 5000; ++job) pool.parallel_for(64, [&](int64_t piece, int) { values[static_cast<size_t>(piece)] += piece; });
  for (int64_t i = 0; i < 64; ++i) EXPECT_EQ(values[static_cast<size_t>(i)], 5000 * i);
}

TEST(thread_pool, rethrows_a_pieces_exception_and_works_on) {
  ThreadPool pool(3);
  for (int job = 0; job < 100; ++job)
    EXPECT_THROW(pool.parallel_for(50,
                                   [&](int64_t piece, int) {
                                     if (piece % 7 == 3) throw std::runtime_error("piece failed");
                                   }),
                 std::runtime_error);
  std::atomic<int> count = 0;
  pool.parallel_for(10, [&](int64_t, int) { ++count; });
  EXPECT_EQ(count, 10);
}

TEST(thread_pool, wakes_workers_that_sleep) {
  ThreadPool pool(2);
  for (int job = 0; job < 5; ++job) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int> count = 0;
    pool.parallel_for(100, [&](int64_t, int) { ++count; });
    EXPECT_EQ(count, 100);
  }
}

TEST(thread_pool, refuses_a_senseless_size) {
  EXPECT_THROW(ThreadPool(0), std::invalid_argument);
  EXPECT_THROW(ThreadPool(5000), std::invalid_argument);
}

}  // namespace
}  // namespace tessera
