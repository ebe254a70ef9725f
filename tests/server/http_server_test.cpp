#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "http_client.h"
#include "http_test_server.h"
#include "server/http_server.h"

namespace tessera::server {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const std::string kHeld = "POST /held HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

TEST(http_server, answers_one_request_after_the_other_on_a_connection) {
  TestServer server;
  HttpClient client = server.client();
  for (int i = 0; i < 3; ++i) {
    const ClientResponse health = client.get("/health?a=1");
    EXPECT_EQ(health.status, 200);
    EXPECT_EQ(health.body, "well");
    EXPECT_THAT(health.head, HasSubstr("X-Query: a=1\r\n"));
    const std::string body(i * 100'000, 'x');
    EXPECT_EQ(client.post("/echo", body).body, body);
  }
}

TEST(http_server, streams_each_send_as_it_comes) {
  TestServer server;
  HttpClient client = server.client();
  client.send(kHeld);
  const auto exchange = server.handler.held();
  exchange->expect_stream({{"X-Request-Id", "7"}});
  EXPECT_FALSE(client.more(50ms)) << "the status line waits for the first events";
  EXPECT_TRUE(exchange->send("data: 1\n\n"));
  const std::string head = client.read_to("\r\n\r\n");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(head, HasSubstr("Content-Type: text/event-stream\r\n"));
  EXPECT_THAT(head, HasSubstr("X-Request-Id: 7\r\n"));
  EXPECT_EQ(client.chunk(), "data: 1\n\n");
  EXPECT_TRUE(exchange->send("data: 2\n\n"));
  EXPECT_EQ(client.chunk(), "data: 2\n\n");
  exchange->finish();
  EXPECT_EQ(client.chunk(), "");
  EXPECT_EQ(client.get("/health").status, 200);
}

}  // namespace
}  // namespace tessera::server
