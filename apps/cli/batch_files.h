#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tessera {

// An open file, closed at the end.
class OpenFile {
 public:
  // `flags`: open()'s. Throws std::invalid_argument when it cannot be opened or is not a regular file.
  OpenFile(std::string path, int flags);
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int number() const { return number_; }
  const std::string& path() const { return path_; }
  // Calls take(line, offset) for each line, without its end; returns where the last whole line ends. A last one without an end is given by
  // itself as `rest`. Throws std::invalid_argument for a line of more than `most` bytes.
  template <class Take>
  uint64_t each_line(size_t most, std::string& rest, const Take& take) const;
  std::string read(uint64_t offset, size_t bytes) const;

 private:
  std::string path_;
  int number_;
};

// OpenAI's batch input: a line is a JSON object {"custom_id", "method", "url", "body"}.
class BatchInput {
 public:
  static constexpr size_t kMostLineBytes = size_t{8} << 20;

  // Reads all of it. Throws std::invalid_argument, naming the line, for one that is no JSON object or has no custom_id of its own, or when
  // there is none.
  explicit BatchInput(const std::string& path);

  size_t size() const { return lines_.size(); }
  const std::string& custom_id(size_t index) const { return lines_[index].custom_id; }
  // Its index, or size().
  size_t find(const std::string& custom_id) const;
  // Read anew. Throws std::invalid_argument when it is not the one that was there.
  std::string line(size_t index) const;
  std::string place(size_t index) const;  // "requests.jsonl: line 3"
  const OpenFile& file() const { return file_; }

 private:
  struct Line {
    std::string custom_id, digest;
    uint64_t offset;
    size_t bytes;
    int64_t number;
  };
  OpenFile file_;
  std::vector<Line> lines_;
  std::unordered_map<std::string_view, size_t> index_;  // into lines_
};

// The answers, a line each: what is there already stays, and counts.
class BatchOutput {
 public:
  // Throws std::invalid_argument, and changes nothing, when the file is the input itself, another command writes it, or it holds anything
  // but answers to the input, one each. A last line that was not finished is cut off.
  BatchOutput(const std::string& path, const BatchInput& input);

  bool is_answered(size_t index) const { return answered_[index]; }
  size_t found() const { return found_; }  // answers that were there
  size_t found_failures() const { return found_failures_; }

  // Whole lines, each with its end: written and on the disk when it returns. Throws ResourceError, and leaves none of them in part.
  void write(std::string_view lines);

 private:
  OpenFile file_;
  std::vector<bool> answered_;
  size_t found_ = 0, found_failures_ = 0;
  uint64_t end_ = 0;  // bytes of whole lines
};

}  // namespace tessera
