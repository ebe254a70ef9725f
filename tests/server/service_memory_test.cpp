// A program of its own: its operator new is replaced.
#include <gtest/gtest.h>

#include "checkpoint/allocations.h"
#include "served.h"

namespace tessera::server {
namespace {

// The n-th allocation of at least so many bytes fails, of whichever thread: behind it all is as before. Smaller ones do not: the JSON
// library allocates a little where it destroys, and ends the program where that fails.
constexpr size_t kLeast = 256;

void expect_to_live(const std::string& content, const std::string& path = kPath) {
  Served served;
  const std::string request = "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " +
                              std::to_string(content.size()) + "\r\n\r\n" + content;
  const std::string alone = choices(served.client().post(kPath, body(6, 1)));
  int refused = 0, answered = 0, silent = 0;
  for (size_t n = 1; n < 60 || (answered == 0 && n < 1000); ++n) {  // and until none of its allocations is that late
    HttpClient client = served.client();
    bool came;
    {
      const tessera::testing::AllocationWatch watch(n, 1, kLeast);
      client.send(request);
      came = client.waits_for_bytes(2s);
    }
    const int status = came ? client.response().status : 0;
    EXPECT_TRUE(status == 0 || status == 200 || status == 503 || status == 500) << status;
    ++(status == 0 ? silent : status == 200 ? answered : refused);
    client.close();
    EXPECT_EQ(choices(served.client().post(kPath, body(6, 1))), alone) << n;
    EXPECT_FALSE(served.has_failed) << n;
  }
  EXPECT_GT(answered, 0) << "where enough is allocated before";
  EXPECT_GT(refused, 0);
  EXPECT_TRUE(served.service.wait_until_idle(kPatience)) << "nothing is lost";
  served.wait_for("num_requests_running", 0);
  ::testing::Test::RecordProperty("answered", answered);
  ::testing::Test::RecordProperty("refused", refused);
  ::testing::Test::RecordProperty("silent", silent);
}

TEST(service_memory, memory_that_ends_anywhere_ends_an_answer_and_not_the_server) { expect_to_live(body(6, 1)); }
TEST(service_memory, memory_that_ends_anywhere_ends_a_stream_and_not_the_server) { expect_to_live(body(6, 1, true)); }

}  // namespace
}  // namespace tessera::server
