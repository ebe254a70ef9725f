#pragma once
// A tiny checkpoint served as `tessera serve` serves one, over a device that computes no model.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/running_model.h"
#include "generate/paged_device.h"
#include "http_client.h"
#include "ops/selection.h"
#include "server/service.h"

namespace tessera::server {

namespace fs = std::filesystem;

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

inline std::string body(int tokens, int seed, bool stream = false) {
  return R"({"prompt": "abc", "ignore_eos": true, "temperature": 2.0, "max_tokens": )" + std::to_string(tokens) +
         ", \"seed\": " + std::to_string(seed) + (stream ? ", \"stream\": true}" : "}");
}

// Without what differs from time to time.
inline std::string choices(const ClientResponse& response) {
  const size_t begin = response.body.find("\"choices\""), end = response.body.find("\"usage\"");
  return begin == std::string::npos ? response.body : response.body.substr(begin, end - begin);
}

inline const std::string kPath = "/v1/completions";

}  // namespace tessera::server
