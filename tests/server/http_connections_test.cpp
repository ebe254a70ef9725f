// Connections: how many there may be, and how all of them end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "checkpoint/allocations.h"
#include "http_client.h"
#include "http_test_server.h"
#include "thinned.h"

namespace tessera::server {
namespace {

using ::testing::HasSubstr;

const std::string kHeld = "POST /held HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

TEST(http_connections, stop_closes_idle_ones_and_half_requests_and_lets_a_running_answer_end) {
  TestServer server;
  HttpClient idle = server.client(), kept = server.client(), half = server.client(), running = server.client();
  EXPECT_EQ(kept.get("/health").status, 200);
  half.send("GET /hea");
  running.send(kHeld);
  const auto exchange = server.handler.held();
  exchange->send("data: 1\n\n");
  running.read_to("data: 1\n\n\r\n");
  server.stop(10min);
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_EQ(kept.read_all(), "");
  EXPECT_EQ(half.read_all(), "");
  EXPECT_THROW(
      {
        HttpClient late = server.client();
        if (late.get("/health").status == 0) throw std::runtime_error("not answered");
      },
      std::runtime_error);
  EXPECT_TRUE(exchange->send("data: 2\n\n"));
  exchange->finish();
  EXPECT_EQ(running.read_all(), "9\r\ndata: 2\n\n\r\n0\r\n\r\n");
  server.join();
}

TEST(http_connections, stop_waits_for_no_answer_longer_than_it_is_told) {
  TestServer server;
  HttpClient running = server.client();
  running.send(kHeld);
  const auto exchange = server.handler.held();
  std::atomic<int> gone = 0;
  exchange->on_gone([&] { ++gone; });
  server.stop(10min);
  server.stop(20ms);
  server.join();
  EXPECT_EQ(gone, 1);
}

TEST(http_connections, one_more_than_may_be_is_told_so_and_there_is_room_when_another_ends) {
  TestServer server({.limits = {.connections = 2}});
  HttpClient first = server.client(), second = server.client();
  EXPECT_EQ(first.get("/health").status, 200);
  EXPECT_EQ(second.get("/health").status, 200);
  HttpClient third = server.client();
  EXPECT_THAT(third.read_all().value_or("open"), HasSubstr("HTTP/1.1 503 "));
  EXPECT_EQ(server.refused("too_many_connections"), 1);
  first.close();
  EXPECT_TRUE(comes([&] { return server.counts().connections == 1; }));
  EXPECT_EQ(server.client().get("/health").status, 200);
}

TEST(http_connections, where_no_descriptor_is_left_connections_wait_until_one_is) {
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  TestServer server;  // raises the limit
  HttpClient first = server.client();
  EXPECT_EQ(first.get("/health").status, 200);
  std::vector<HttpClient> clients;
  for (int i = 0; i < 4; ++i) clients.push_back(server.client());
  EXPECT_TRUE(comes([&] { return server.counts().connections == 5; }));
  HttpClient waiting = [&] {
    const int next = ::dup(0);  // the lowest number that is free: of the client that is connected now
    ::close(next);
    const rlimit full{.rlim_cur = static_cast<rlim_t>(next) + 1, .rlim_max = before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &full);
    return server.client();
  }();
  waiting.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_FALSE(waiting.more(300ms)) << "nothing is left to accept it with";
  EXPECT_EQ(first.get("/health").status, 200) << "those that are there are served";
  clients.clear();
  EXPECT_EQ(waiting.response().status, 200);
  ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST(http_connections, memory_that_ends_anywhere_ends_a_request_and_not_the_server) {
  TestServer server({.limits = {.idle = 50ms, .linger = 20ms}});
  const std::string request =
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2000\r\n\r\n" + std::string(2000, 'x');
  EXPECT_EQ(server.client().get("/health").body, "well");  // it runs
  int answered = 0, unanswered = 0;
  for (size_t n = 1; n < 200; ++n) {
    EXPECT_TRUE(comes([&] { return server.counts().connections == 0; })) << n;
    bool came;
    {
      const tessera::testing::AllocationWatch watch(n);
      HttpClient client = server.client();
      client.send(request);
      came = client.waits_for_bytes(30ms) && !client.is_closed();
    }
    ++(came ? answered : unanswered);
    EXPECT_EQ(server.client().get("/health").body, "well") << n;
  }
  EXPECT_GT(answered, 0) << "where enough is allocated before";
  EXPECT_GT(unanswered, 10);
}

int64_t resident_bytes() {
  FILE* const file = std::fopen("/proc/self/statm", "r");
  long long pages = 0;
  if (std::fscanf(file, "%*d %lld", &pages) != 1) pages = 0;
  std::fclose(file);
  return pages * ::sysconf(_SC_PAGESIZE);
}

// In a process of its own, which has as many descriptors as this one: opens connections, and waits until it is killed.
pid_t open_connections(int port, int count) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (int i = 0; i < count; ++i) {
    const int client = ::socket(AF_INET, SOCK_STREAM, 0);
    if (::connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) ::_exit(1);
    if (::send(client, "GET /", 5, MSG_NOSIGNAL) != 5) ::_exit(1);
  }
  for (;;) ::pause();
}

TEST(http_connections, a_crowd_that_only_waits_hinders_nobody_and_takes_little_memory) {
  const bool all = std::getenv("TESSERA_WHOLE_MATRIX") != nullptr;
  const int count = all ? 10'000 : 1'000;
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_max < static_cast<rlim_t>(count) + 100)
    GTEST_SKIP() << "this machine gives a process " << files.rlim_max << " descriptors";
  TestServer server({.limits = {.header = 10min, .idle = 10min}});
  EXPECT_EQ(server.client().get("/health").status, 200);
  const int64_t before = resident_bytes();
  const pid_t crowd = open_connections(server.port(), count);
  EXPECT_TRUE(comes([&] { return server.counts().connections >= count; })) << server.counts().connections;
  EXPECT_EQ(server.client().get("/health").status, 200);
  const int64_t bytes = (resident_bytes() - before) / count;
  RecordProperty("bytes_of_a_connection", std::to_string(bytes));
  if (!kSanitizerBuild) {
    EXPECT_LT(bytes, 65'536);
  }
  ::kill(crowd, SIGKILL);
  ::waitpid(crowd, nullptr, 0);
  EXPECT_TRUE(comes([&] { return server.counts().connections <= 1; }));
}

// The text of the error that an address and a port give.
template <class Error>
std::string refusal(const std::string& address, int port, int threads = 1) {
  TestHandler handler;
  try {
    HttpServer server({.address = address, .port = port, .threads = threads}, handler);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(http_connections, an_address_or_port_that_cannot_be_had_is_named) {
  TestServer server;
  const std::string port = std::to_string(server.port());
  EXPECT_THAT(refusal<std::runtime_error>("127.0.0.1", server.port()), HasSubstr("port " + port + " of 127.0.0.1"));
  EXPECT_THAT(refusal<std::runtime_error>("192.0.2.1", 0), HasSubstr("192.0.2.1"));
  EXPECT_THAT(refusal<std::invalid_argument>("localhost", 0), HasSubstr("\"localhost\""));
  EXPECT_THAT(refusal<std::invalid_argument>("127.0.0.1", 65536), HasSubstr("65536"));
  EXPECT_THAT(refusal<std::invalid_argument>("127.0.0.1", -1), HasSubstr("-1"));
  EXPECT_THAT(refusal<std::invalid_argument>("127.0.0.1", 0, 0), HasSubstr("threads"));
}

}  // namespace
}  // namespace tessera::server
