#include "request_script.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <stdexcept>

#include "core/error.h"

namespace tessera {
namespace {

constexpr int64_t kMostSteps = 1'000'000;

void append(std::vector<double>& to, const TokenLogprobs& of) {
  to.push_back(of.logprob);
  to.push_back(static_cast<double>(of.rank));
  for (const auto& [token, logprob] : of.top) {
    to.push_back(static_cast<double>(token));
    to.push_back(logprob);
  }
}

class ScriptedConstraint final : public TokenConstraint {
 public:
  ScriptedConstraint(uint32_t seed, TokenId vocab, size_t longest) : seed_(seed), vocab_(vocab), longest_(longest) {}

  bool allowed(std::span<int32_t> bits) override {
    check<std::runtime_error>(text_.size() < longest_, "no token may come behind ", text_.size());
    const uint32_t drawn = this->drawn();
    if (drawn % 8 < 2) return false;
    for (TokenId token = 0; token < vocab_; ++token)
      if (may_come(token, drawn)) bits[static_cast<size_t>(token / 32)] |= static_cast<int32_t>(uint32_t{1} << (token % 32));
    return true;
  }
  void accept(TokenId token) override {
    check<std::logic_error>(may_come(token, drawn()), "token ", token, " may not come");
    text_.push_back(token);
  }
  void rollback(int64_t tokens) override { text_.resize(text_.size() - static_cast<size_t>(tokens)); }
  std::unique_ptr<TokenConstraint> fork() const override { return std::make_unique<ScriptedConstraint>(*this); }

 private:
  uint32_t drawn() const {
    uint64_t digest = seed_;
    for (const TokenId token : text_) digest = (digest + static_cast<uint64_t>(token) + 1) * 0x9e3779b97f4a7c15;
    return static_cast<uint32_t>(digest >> 33);
  }
  bool may_come(TokenId token, uint32_t drawn) const {
    const auto from = static_cast<TokenId>(drawn / 8 % static_cast<uint32_t>(vocab_));
    switch (drawn % 8) {
      case 0:
      case 1:
        return true;
      case 2:
        return (token + from) % 2 == 0;
      case 3:
        return token == from || token == (from + 5) % vocab_ || token == (from + 31) % vocab_;
      case 4:
        return token == from;
      default:
        return token % 11 != from % 11;
    }
  }

  uint32_t seed_;
  TokenId vocab_;
  size_t longest_;
  std::vector<TokenId> text_;
};

// -infinity for what may not come.
std::vector<float> constrained(std::vector<float> logits, TokenConstraint& constraint) {
  std::vector<int32_t> bits(logits.size() / 32 + 1);
  if (!constraint.allowed(bits)) return logits;
  for (size_t i = 0; i < logits.size(); ++i)
    if (!(bits[i / 32] & static_cast<int32_t>(uint32_t{1} << (i % 32)))) logits[i] = -std::numeric_limits<float>::infinity();
  return logits;
}

template <class T>
bool begins_with(const std::vector<T>& whole, const std::vector<T>& part) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

}  // namespace

std::shared_ptr<TokenConstraint> scripted_constraint(uint32_t seed, TokenId vocab, size_t longest) {
  return std::make_shared<ScriptedConstraint>(seed, vocab, longest);
}

std::vector<Scripted> make_script(const ScriptOptions& options) {
  std::mt19937 random(options.seed);
  const auto below = [&](size_t limit) { return static_cast<size_t>(random() % limit); };
  const auto in = [&](size_t of) { return below(of) == 0; };  // one in so many
  const auto tokens = [&](size_t count) {
    std::vector<TokenId> made(count);
    for (TokenId& token : made) token = static_cast<TokenId>(random() % static_cast<uint32_t>(options.vocab));
    return made;
  };
  const std::vector<std::vector<TokenId>> stems{tokens(options.stem), tokens(options.stem), tokens(options.stem)};
  std::vector<Scripted> script(options.requests);
  int64_t step = 0;
  for (size_t i = 0; i < script.size(); ++i) {
    Scripted& scripted = script[i];
    ScheduledRequest& request = scripted.request;
    const std::vector<TokenId>& stem = stems[below(stems.size())];
    request.prompt.assign(stem.begin(), stem.begin() + static_cast<std::ptrdiff_t>(in(3) ? below(stem.size()) : stem.size()));
    const std::vector<TokenId> tail = tokens(1 + below(options.tail));
    request.prompt.insert(request.prompt.end(), tail.begin(), tail.end());
    request.max_new_tokens = static_cast<int64_t>(in(16) ? 0 : 1 + below(options.most_new));
    request.end_tokens = {static_cast<TokenId>(below(static_cast<size_t>(options.vocab))), static_cast<TokenId>(5)};
    SamplingParams& sampling = request.sampling;
    sampling.seed = random();
    switch (below(4)) {
      case 0:
        sampling.temperature = 0;
        break;
      case 1:
        sampling = {.temperature = 0.9, .top_k = 20, .seed = sampling.seed};
        break;
      case 2:
        sampling = {.temperature = 1.3, .top_p = 0.9, .seed = sampling.seed};
        break;
      case 3:
        sampling = {.temperature = 0.7, .top_k = 50, .top_p = 0.95, .min_p = 0.02, .seed = sampling.seed};
        break;
    }
    if (in(5)) request.n = 3;
    if (in(6)) sampling.logit_bias = {{static_cast<TokenId>(3), 2.0}, {static_cast<TokenId>(5), -100.0}};
    if (in(6)) sampling.repetition_penalty = 1.2;
    if (in(6)) sampling.presence_penalty = 0.5, sampling.frequency_penalty = 0.25;
    if (in(8)) sampling.min_new_tokens = 4;
    if (in(4)) request.logprobs = static_cast<int64_t>(below(4));
    if (in(6)) request.prompt_logprobs = static_cast<int64_t>(below(3));
    if (in(3)) {
      request.prompt_lookup = static_cast<int64_t>(1 + below(8));
      const std::vector<TokenId> again(request.prompt.end() - std::min<std::ptrdiff_t>(6, std::ssize(request.prompt)),
                                       request.prompt.end());
      request.prompt.insert(request.prompt.end(), again.begin(), again.end());
    }
    if (in(6)) scripted.stop_after = 1 + below(options.most_new);
    request.priority = static_cast<int>(below(3));
    request.owner = std::string(1, static_cast<char>('a' + below(3)));
    request.salt = in(4) ? "salt" : "";
    if (in(2)) step += static_cast<int64_t>(below(12));
    scripted.arrives = step;
    if (in(3)) {
      const size_t longest = in(4) ? below(options.most_new) : options.most_new;
      request.constraint = scripted_constraint(static_cast<uint32_t>(random()), options.vocab, longest);
    }
    if (in(6)) scripted.cancelled = step + static_cast<int64_t>(below(in(2) ? 4 : 120));
  }
  return script;
}

std::vector<Given> run_alone(const Scripted& scripted, const RowsOfText& rows) {
  const ScheduledRequest& request = scripted.request;
  std::vector<Given> given(static_cast<size_t>(request.n));
  if (request.prompt_logprobs) {
    const auto all = rows(request.prompt, request.prompt.size());
    for (size_t i = 1; i < request.prompt.size(); ++i)
      append(given[0].prompt_logprobs, token_logprobs(all[i - 1], request.prompt[i], *request.prompt_logprobs));
  }
  for (size_t sample = 0; sample < given.size(); ++sample) {
    Sampler sampler(request.sampling, request.end_tokens);
    sampler.set_max_length(static_cast<int64_t>(request.prompt.size()) + request.max_new_tokens);
    std::vector<TokenId> text = request.prompt;
    FinishReason reason = FinishReason::length;
    const auto constraint = request.constraint ? request.constraint->fork() : nullptr;
    while (reason == FinishReason::length && std::ssize(given[sample].ids) < request.max_new_tokens) {
      const std::vector<float> logits = rows(text, 1)[0];
      TokenId id = 0;
      try {
        id = sampler.sample(constraint ? constrained(logits, *constraint) : logits, text, request.prompt.size(), sample);
      } catch (const std::runtime_error&) {
        reason = FinishReason::error;
        continue;
      }
      if (constraint) constraint->accept(id);
      given[sample].ids.push_back(id);
      if (request.logprobs) append(given[sample].logprobs, token_logprobs(logits, id, *request.logprobs));
      text.push_back(id);
      if (sampler.ends(id) || given[sample].ids.size() == scripted.stop_after) reason = FinishReason::stop;
    }
    given[sample].end = ScheduledRequest::End{.sample = sample, .reason = reason};
  }
  return given;
}

std::vector<std::vector<Given>> run_script(Scheduler& scheduler, const std::vector<Scripted>& script, const AtStep& before_step,
                                           const AtStep& after_step) {
  std::vector<std::vector<Given>> all(script.size());
  std::vector<std::optional<Scheduler::Id>> ids(script.size());
  for (size_t i = 0; i < script.size(); ++i) all[i].resize(static_cast<size_t>(script[i].request.n));
  size_t submitted = 0;
  for (int64_t step = 0; step < kMostSteps; ++step) {
    for (size_t i = 0; i < script.size(); ++i) {
      if (!ids[i] && script[i].arrives <= step) {
        ScheduledRequest request = script[i].request;
        std::vector<Given>& given = all[i];
        const size_t stop_after = script[i].stop_after;
        request.on_token = [&given, stop_after](const ScheduledRequest::Token& token) {
          Given& one = given[token.sample];
          EXPECT_EQ(one.ends, 0) << "a token behind the end";
          one.ids.push_back(token.id);
          if (token.logprobs) append(one.logprobs, *token.logprobs);
          return one.ids.size() != stop_after;
        };
        request.on_prompt = [&given](const std::vector<TokenLogprobs>& logprobs) {
          EXPECT_TRUE(given[0].ids.empty() && given[0].prompt_logprobs.empty());
          for (const TokenLogprobs& one : logprobs) append(given[0].prompt_logprobs, one);
        };
        request.on_end = [&given](const ScheduledRequest::End& end) {
          given[end.sample].end = end;
          ++given[end.sample].ends;
        };
        ids[i] = scheduler.submit(std::move(request));
        ++submitted;
      }
      if (ids[i] && script[i].cancelled == step) scheduler.cancel(*ids[i]);
    }
    if (before_step) before_step(step);
    const bool more = scheduler.step();
    if (after_step) after_step(step);
    if (!more && submitted == script.size()) return all;
  }
  ADD_FAILURE() << "the script does not end";
  return all;
}

void expect_as_alone(const std::vector<Scripted>& script, const std::vector<std::vector<Given>>& given,
                     const std::vector<std::vector<Given>>& alone) {
  for (size_t i = 0; i < script.size(); ++i)
    for (size_t sample = 0; sample < given[i].size(); ++sample) {
      const Given &one = given[i][sample], &lone = alone[i][sample];
      const std::string who = message("request ", i, ", sample ", sample, ", prompt of ", script[i].request.prompt.size());
      ASSERT_EQ(one.ends, 1) << who;
      if (one.end->reason == FinishReason::cancelled) {
        EXPECT_TRUE(script[i].cancelled) << who;
        EXPECT_TRUE(begins_with(lone.ids, one.ids) && begins_with(lone.logprobs, one.logprobs)) << who;
        EXPECT_TRUE(begins_with(lone.prompt_logprobs, one.prompt_logprobs)) << who;
        continue;
      }
      if (one.end->error && lone.end->reason != FinishReason::error) {
        try {
          std::rethrow_exception(one.end->error);
        } catch (const std::exception& error) {
          ADD_FAILURE() << who << ": " << error.what();
        }
      }
      EXPECT_EQ(one.end->reason, lone.end->reason) << who;
      EXPECT_EQ(one.ids, lone.ids) << who;
      EXPECT_EQ(one.logprobs, lone.logprobs) << who;
      EXPECT_EQ(one.prompt_logprobs, lone.prompt_logprobs) << who;
      EXPECT_EQ(one.end->new_tokens, std::ssize(lone.ids)) << who;
      EXPECT_EQ(one.end->prompt_tokens, std::ssize(script[i].request.prompt)) << who;
    }
}

void expect_nothing_left(const Scheduler& scheduler, const Cache& cache) {
  EXPECT_EQ(cache.sequences(), 0);
  for (size_t group = 0; group < cache.groups(); ++group) EXPECT_EQ(cache.free_pages(group), cache.total_pages(group)) << "group " << group;
  const Scheduler::Counts counts = scheduler.counts();
  EXPECT_EQ(counts.waiting, 0);
  EXPECT_EQ(counts.waiting_tokens, 0);
  EXPECT_EQ(counts.running, 0);
}

}  // namespace tessera
