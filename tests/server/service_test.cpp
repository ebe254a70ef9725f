#include "server/service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <limits>
#include <thread>

#include "engine/running_model.h"
#include "generate/paged_device.h"
#include "http_client.h"

namespace tessera::server {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr int kAll = std::numeric_limits<int>::max();

// The next token is a digest of the text before it. It fails and waits when it is told to.
class TextDevice final : public IdleDevice {
 public:
  std::atomic<bool> fails = false;
  std::atomic<int> steps = kAll;  // that it computes before it waits

  std::string name() const override { return "cpu"; }
  Limits limits() const override {
    Limits limits = PagedDevice::mixing();
    limits.page_tokens = 32;
    return limits;
  }
  std::shared_ptr<Storage> make_cache(const CacheSpec&, DataType, std::span<const int64_t>) override { return std::make_shared<Storage>(); }
  void copy_page(Storage&, size_t, int32_t, int32_t) override {}
  void read_rows(const Tensor& logits, std::span<const int64_t> rows, std::span<float> out) override {
    for (const int64_t row : rows) std::ranges::copy(row_of(logits, row), out.begin() + row * logits.shape()[3]);
  }
  std::vector<TokenId> argmax(const Tensor& logits, std::span<const int64_t> rows) override {
    std::vector<TokenId> ids;
    for (const int64_t row : rows) ids.push_back(tessera::argmax(row_of(logits, row), logits.shape()[3])[0]);
    return ids;
  }
  TopK topk(const Tensor& logits, std::span<const int64_t> rows, int64_t k) override {
    TopK all;
    for (const int64_t row : rows) {
      const TopK one = tessera::topk(row_of(logits, row), logits.shape()[3], k);
      all.k = one.k;
      all.ids.insert(all.ids.end(), one.ids.begin(), one.ids.end());
      all.values.insert(all.values.end(), one.values.begin(), one.values.end());
    }
    return all;
  }

 private:
  struct Rows final : Storage {
    std::vector<std::vector<float>> rows;
  };
  static const std::vector<float>& row_of(const Tensor& logits, int64_t row) {
    return static_cast<Rows&>(logits.storage()).rows[static_cast<size_t>(row)];
  }

  Tensor execute(const Model& model, const Batch& batch) override {
    while (steps == 0 && !fails) std::this_thread::sleep_for(1ms);
    --steps;
    if (fails) throw DeviceError("the device is broken at 0xdeadbeef");
    const auto made = std::make_shared<Rows>();
    const int64_t vocabulary = model.spec().vocab_size;
    for (const Batch::Slice& slice : batch.slices) {
      uint64_t seen = 0;
      for (int64_t i = 0; i < slice.position + slice.count; ++i) {
        seen = mix(seen, static_cast<uint64_t>(slice.sequence->tokens[static_cast<size_t>(i)]));
        if (i < slice.position + slice.count - slice.logit_rows) continue;
        std::vector<float>& row = made->rows.emplace_back(vocabulary, 0.f);
        for (TokenId letter = 4; letter < 8; ++letter)
          row[static_cast<size_t>(letter)] = 10 + static_cast<float>(mix(seen, static_cast<uint64_t>(letter)) >> 40) * 0x1p-24f;
      }
    }
    return Tensor(*this, {1, 1, std::ssize(made->rows), vocabulary}, DataType::float32, made);
  }
};

constexpr const char* kTokenizer = R"({"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
    "post_processor": null, "decoder": {"type": "Fuse"}, "model": {"type": "BPE", "dropout": null, "unk_token": null,
    "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
    "vocab": {"a": 4, "b": 5, "c": 6, "d": 7}, "merges": []}})";

// A tiny Gemma 3's checkpoint with a tokenizer of four letters, served as `tessera serve` serves one, over the device above.
class Served {
 public:
  explicit Served(ServiceOptions options = {}, SchedulerOptions scheduling = {.max_num_seqs = 4})
      : folder_(fs::path(::testing::TempDir()) / ("service_test_" + std::to_string(::getpid()))),
        running_(checkpoint(folder_), {}, device, load_, RunningModel::alike(load_, 8), {}),
        model_(running_, {.names = {"tiny"}}),
        scheduler(running_.generator(), scheduling),
        service(std::move(options)),
        http_({.port = 0, .threads = 2, .limits = {.idle = 500ms}}, service) {
    service.open(model_, scheduler);
    listener_ = std::thread([this] { http_.run(); });
    engine_ = std::thread([this] {
      try {
        scheduler.run();
      } catch (const std::exception&) {
        has_failed = true;
        service.fail("the engine has failed");
      }
    });
  }
  ~Served() {
    device->steps = kAll;
    scheduler.stop();
    engine_.join();
    service.wait_until_idle(1s);
    service.close();
    http_.stop(1s);
    listener_.join();
    fs::remove_all(folder_);
  }

  HttpClient client() const { return HttpClient(http_.port()); }
  ClientResponse get(const std::string& path) const { return client().get(path); }
  double metric(const std::string& name) const {
    const std::string text = get("/metrics").body;
    const size_t at = text.find("\ntessera:" + name);
    return at == std::string::npos ? 0 : std::stod(text.substr(text.find(' ', at + 1)));
  }
  void wait_for(const std::string& name, double value) const {
    for (int i = 0; i < 20'000 && metric(name) != value; ++i) std::this_thread::sleep_for(1ms);
    ASSERT_EQ(metric(name), value) << name;
  }

  void wait_until_all_are_in(int count) const {
    const auto now = [&] { return metric("num_requests_running") + metric("num_requests_waiting"); };
    for (int i = 0; i < 20'000 && now() != count; ++i) std::this_thread::sleep_for(1ms);
    ASSERT_EQ(now(), count);
  }

  std::shared_ptr<TextDevice> device = std::make_shared<TextDevice>();
  std::atomic<bool> has_failed = false;

 private:
  static Checkpoint checkpoint(const fs::path& folder) {
    fs::create_directories(folder);
    for (const char* name : {"config.json", "model.safetensors"})
      fs::copy_file(fs::path(TESSERA_TINY) / "small-gemma3" / name, folder / name, fs::copy_options::overwrite_existing);
    std::ofstream(folder / "tokenizer.json") << kTokenizer;
    return Checkpoint::open(folder.string());
  }

  fs::path folder_;
  LoadOptions load_{.threads = 2};
  RunningModel running_;
  api::ServedModel model_;

 public:
  Scheduler scheduler;
  Service service;

 private:
  HttpServer http_;
  std::thread listener_, engine_;
};

std::string body(int tokens, int seed, bool stream = false) {
  return R"({"prompt": "abc", "ignore_eos": true, "temperature": 2.0, "max_tokens": )" + std::to_string(tokens) +
         ", \"seed\": " + std::to_string(seed) + (stream ? ", \"stream\": true}" : "}");
}

// Without what differs from time to time.
std::string choices(const ClientResponse& response) {
  const size_t begin = response.body.find("\"choices\""), end = response.body.find("\"usage\"");
  return begin == std::string::npos ? response.body : response.body.substr(begin, end - begin);
}

const std::string kPath = "/v1/completions";

TEST(service, clients_that_come_and_go_change_no_answer) {
  Served served;
  std::vector<std::string> alone;
  for (int seed = 0; seed < 6; ++seed) alone.push_back(choices(served.client().post(kPath, body(20, seed))));
  ASSERT_THAT(alone[0], HasSubstr("length"));
  ASSERT_NE(alone[0], alone[1]);
  std::atomic<int> right = 0;
  std::vector<std::thread> clients;
  for (int number = 0; number < 8; ++number)
    clients.emplace_back([&, number] {
      for (int turn = 0; turn < 12; ++turn) {
        const int seed = (number + turn) % 6;
        HttpClient client = served.client();
        if (turn % 3 == 2) {
          client.send_post(kPath, body(200, seed, true));
          if (turn % 2 == 0) client.read_to("data: ");
          number % 2 == 0 ? client.reset() : client.close();
        } else {
          right += choices(client.post(kPath, body(20, seed))) == alone[static_cast<size_t>(seed)];
        }
      }
    });
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(right, 8 * 8);
  EXPECT_TRUE(served.service.wait_until_idle(kPatience));
  served.wait_for("num_requests_running", 0);
}

TEST(service, an_engine_that_fails_answers_everybody_and_says_so) {
  Served served;
  served.device->steps = 3;
  std::vector<HttpClient> streams, wholes;
  streams.push_back(served.client());
  streams.back().send_post(kPath, body(200, 1, true));
  EXPECT_THAT(streams.back().read_to("data: "), HasSubstr("200 OK"));
  for (int i = 0; i < 6; ++i) {
    streams.push_back(served.client());
    streams.back().send_post(kPath, body(200, i, true));
    wholes.push_back(served.client());
    wholes.back().send_post(kPath, body(200, i));
  }
  served.wait_until_all_are_in(13);
  served.device->fails = true;
  for (size_t i = 0; i < streams.size(); ++i) {
    const std::string rest = streams[i].read_all().value_or("it stays open");
    EXPECT_NE(rest.find("\"error\""), std::string::npos);
    EXPECT_EQ(rest.find("deadbeef"), std::string::npos) << "what the device says is for the log";
    EXPECT_EQ(rest.starts_with("HTTP/1.1 503"), i > 0) << "a stream that has begun is told by an event, another by its status";
  }
  for (HttpClient& whole : wholes) {
    const ClientResponse response = whole.response();
    EXPECT_EQ(response.status, 503) << response.body;
    EXPECT_THAT(response.body, testing::Not(HasSubstr("deadbeef")));
  }
  EXPECT_TRUE(served.service.wait_until_idle(kPatience));
  for (int i = 0; i < 20'000 && !served.has_failed; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(served.has_failed);
  for (const char* path : {"/health", "/ready", "/v1/models"}) EXPECT_EQ(served.get(path).status, 503) << path;
  EXPECT_EQ(served.client().post(kPath, body(1, 1)).status, 503);
  EXPECT_EQ(served.get("/metrics").status, 200);
}

TEST(service, what_runs_ends_within_a_drain_and_what_comes_is_refused) {
  Served served;
  served.device->steps = 0;
  HttpClient running = served.client();
  running.send_post(kPath, body(5, 1));
  served.wait_for("num_requests_running", 1);
  served.service.drain();
  EXPECT_EQ(served.get("/ready").status, 503);
  EXPECT_EQ(served.get("/health").status, 200);
  const ClientResponse refused = served.client().post(kPath, body(1, 1));
  EXPECT_EQ(refused.status, 503);
  EXPECT_THAT(refused.head, HasSubstr("Retry-After: "));
  EXPECT_FALSE(served.service.wait_until_idle(10ms));
  served.device->steps = kAll;
  EXPECT_EQ(running.response().status, 200);
  EXPECT_TRUE(served.service.wait_until_idle(kPatience));
}

TEST(service, all_that_runs_can_be_ended) {
  Served served;
  std::vector<HttpClient> streams;
  served.device->steps = 0;
  for (int i = 0; i < 8; ++i) {  // twice as many as run at a time
    streams.push_back(served.client());
    streams.back().send_post(kPath, body(250, i, true));
  }
  served.wait_until_all_are_in(8);
  served.service.drain();
  served.service.end_all("it is over");
  served.device->steps = kAll;
  for (HttpClient& stream : streams) EXPECT_THAT(stream.read_all().value_or("it stays open"), HasSubstr("it is over"));
  EXPECT_TRUE(served.service.wait_until_idle(kPatience));
}

TEST(service, who_asks_behind_its_end_is_answered_too) {
  Served served;
  EXPECT_EQ(served.client().post(kPath, body(1, 1)).status, 200);
  served.service.drain();
  served.service.close();
  EXPECT_EQ(served.get("/ready").status, 503);
  EXPECT_EQ(served.get("/health").status, 200);
  EXPECT_EQ(served.get("/metrics").status, 200);
  EXPECT_EQ(served.client().post(kPath, body(1, 1)).status, 503);
}

TEST(service, a_key_s_place_is_free_when_its_answer_has_come) {
  ServiceOptions options{.most_of_a_key = 1};
  options.keys.add("a", "key");
  Served served(std::move(options));
  const std::string content = body(1, 1);
  const std::string request = "POST " + kPath +
                              " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nx-api-key: key\r\nContent-Length: " +
                              std::to_string(content.size()) + "\r\n\r\n" + content;
  HttpClient client = served.client();
  for (int i = 0; i < 300; ++i) {
    client.send(request);
    ASSERT_EQ(client.response().status, 200) << i;
  }
}

}  // namespace
}  // namespace tessera::server
