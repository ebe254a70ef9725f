#pragma once
// A string that knows which of its bytes people wrote. Whatever is made of a person's text (a part, another case, JSON) is a person's too.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::jinja {

// Whose bytes they are. Of people's, answers that a model gave before are told apart: answer_origin.
enum class Origin : uint32_t { template_text, person };

inline Origin answer_origin(size_t answer) { return static_cast<Origin>(static_cast<uint32_t>(Origin::person) + 1 + answer); }

class Text {
 public:
  // Bytes of one origin: from the end of the run before to `end`. Neighbouring runs are of different origins.
  struct Run {
    size_t end;
    Origin origin;
  };

  Text() = default;
  Text(std::string_view bytes, Origin origin) { append(bytes, origin); }

  const std::string& bytes() const { return bytes_; }
  std::string_view view() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  const std::vector<Run>& runs() const { return runs_; }
  Origin origin_at(size_t byte) const { return runs_[run_of(byte)].origin; }
  bool has_person() const { return runs_.size() > 1 || (!runs_.empty() && runs_[0].origin != Origin::template_text); }
  size_t memory() const { return bytes_.size() + runs_.size() * sizeof(Run); }  // bytes, about

  void append(std::string_view bytes, Origin origin);
  void append(const Text& other, size_t begin, size_t end);  // other's bytes [begin, end); `other` is another object
  void append(const Text& other) { append(other, 0, other.size()); }
  Text part(size_t begin, size_t end) const;

 private:
  size_t run_of(size_t byte) const;

  std::string bytes_;
  std::vector<Run> runs_;
};

}  // namespace tessera::jinja
