// The leaderboard service for Unity 2022 and later: copy this file into Assets/. No packages needed.
//
// Who may post scores: whoever has the game has every key that is in it, and can post any score with it. So a game that
// players run should only read here. Its back end, which knows what was played, posts the scores, and holds the API key.
// AddAsync and SubmitAsync are for servers that are built with Unity (UNITY_SERVER), and for prototypes.
//
// Call it from the main thread, as everything of UnityWebRequest. It starts no threads and no timers, which WebGL has not.
//
//     var board = new LeaderboardClient("https://scores.example.com");
//     Top top = await board.TopAsync("spring", limit: 10);
//     foreach (Player player in top.items) Debug.Log($"{player.rank}. {player.userId} {player.score}");
//     Rank mine = await board.RankAsync("spring", userId);   // null: not on the board

using System;
using System.Globalization;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using UnityEngine;
using UnityEngine.Networking;

namespace SeasonLeaderboard
{
    // What the service answers. The names are those of its JSON, because JsonUtility takes them as they are; fields that a
    // later version of the service adds are passed by.

    [Serializable]
    public sealed class Player
    {
        public int rank;
        public string userId;
        public long score;
    }

    [Serializable]
    public sealed class Top
    {
        public string seasonId;
        public Player[] items;
        public int totalPlayers;
        /// <summary>Where the players behind these begin; null or empty: there are none.</summary>
        public string nextCursor;
    }

    [Serializable]
    public sealed class Rank
    {
        public string seasonId;
        public string userId;
        public int rank;
        public long score;
        /// <summary>Of all players so many stand at this rank or behind it, in per cent.</summary>
        public double percentile;
        public int totalPlayers;
    }

    [Serializable]
    public sealed class Around
    {
        public string seasonId;
        public string userId;
        public Player[] items;
    }

    /// <summary>What the service refused, or could not do.</summary>
    public sealed class LeaderboardException : Exception
    {
        /// <summary>The HTTP status; 0: there was no answer.</summary>
        public long Status { get; }

        /// <summary>As docs/api.md lists them; "no_answer", or "not_understood" where somebody else answered.</summary>
        public string Code { get; }

        /// <summary>By it the service's log names the request; may be null.</summary>
        public string RequestId { get; }

        public LeaderboardException(long status, string code, string message, string requestId) : base(message)
        {
            Status = status;
            Code = code;
            RequestId = requestId;
        }
    }

    public sealed class LeaderboardClient
    {
        private const double FirstPauseSeconds = 0.2;
        private const double LongestPauseSeconds = 10;

        private readonly string _baseUrl;
        private readonly string _apiKey;
        private readonly int _timeoutSeconds;
        private readonly int _attempts;

        /// <param name="apiKey">Of back ends only: sent as Authorization: Bearer.</param>
        /// <param name="timeoutSeconds">How long one attempt may take.</param>
        /// <param name="attempts">How often a request is sent before its failure is told, at least once.</param>
        public LeaderboardClient(string baseUrl, string apiKey = null, int timeoutSeconds = 10, int attempts = 5)
        {
            _baseUrl = baseUrl.TrimEnd('/');
            _apiKey = apiKey;
            _timeoutSeconds = timeoutSeconds;
            _attempts = attempts;
        }

        /// <summary>The best; with the nextCursor of another top, those behind it.</summary>
        /// <param name="window">Here and below: "24h", "3d" or "7d", of seasons with windows; null: of all time.</param>
        /// <param name="ties">Here and below: "competition", equal scores share a rank; null: one behind the other.</param>
        public async Task<Top> TopAsync(
            string seasonId, int limit = 10, string cursor = null, string window = null, string ties = null,
            CancellationToken cancel = default)
        {
            string query = "?limit=" + limit.ToString(CultureInfo.InvariantCulture)
                + Given("cursor", cursor) + Given("window", window) + Given("ties", ties);
            return Read<Top>(await SendAsync("GET", Season(seasonId) + "/leaderboard/top" + query, null, cancel));
        }

        /// <summary>The player's rank; null: not on the board.</summary>
        public Task<Rank> RankAsync(
            string seasonId, string userId, string window = null, string ties = null,
            CancellationToken cancel = default)
        {
            return OrNullAsync<Rank>(
                Season(seasonId) + "/leaderboard/rank?userId=" + Uri.EscapeDataString(userId)
                + Given("window", window) + Given("ties", ties), cancel);
        }

        /// <summary>The player among so many (0 to 100) on each side; null: not on the board.</summary>
        public Task<Around> AroundAsync(
            string seasonId, string userId, int range = 5, string window = null, string ties = null,
            CancellationToken cancel = default)
        {
            return OrNullAsync<Around>(
                Season(seasonId) + "/leaderboard/around?userId=" + Uri.EscapeDataString(userId)
                + "&range=" + range.ToString(CultureInfo.InvariantCulture)
                + Given("window", window) + Given("ties", ties), cancel);
        }

        /// <summary>Add points. It counts once, however often it is sent, since every attempt carries the same key.</summary>
        /// <param name="key">Give one, of the match and the player say, where the score must outlive the program: kept in a
        /// file and sent again with it, until this returns, it still counts once.</param>
        /// <param name="occurredAt">When it was reached, for windows and ties; null: when it arrives.</param>
        public Task AddAsync(
            string seasonId, string userId, long delta, string key = null, DateTimeOffset? occurredAt = null,
            CancellationToken cancel = default)
        {
            string id = key ?? Guid.NewGuid().ToString();
            AddBody body = occurredAt is DateTimeOffset at ? new AddBodyAt { occurredAt = Text(at) } : new AddBody();
            (body.userId, body.delta, body.eventId) = (userId, delta, id);
            return PostAsync(seasonId, body, cancel);
        }

        /// <summary>As AddAsync, the score that was reached: for seasons that keep the best or the latest.</summary>
        public Task SubmitAsync(
            string seasonId, string userId, long score, string key = null, DateTimeOffset? occurredAt = null,
            CancellationToken cancel = default)
        {
            string id = key ?? Guid.NewGuid().ToString();
            SubmitBody body = occurredAt is DateTimeOffset at
                ? new SubmitBodyAt { occurredAt = Text(at) }
                : new SubmitBody();
            (body.userId, body.score, body.eventId) = (userId, score, id);
            return PostAsync(seasonId, body, cancel);
        }

        // Several, because JsonUtility writes every field, null as "", and the service takes either delta or score, and an
        // occurredAt only where it is one.
        [Serializable]
        private class AddBody
        {
            public string userId;
            public long delta;
            public string eventId;
        }

        [Serializable]
        private sealed class AddBodyAt : AddBody
        {
            public string occurredAt;
        }

        [Serializable]
        private class SubmitBody
        {
            public string userId;
            public long score;
            public string eventId;
        }

        [Serializable]
        private sealed class SubmitBodyAt : SubmitBody
        {
            public string occurredAt;
        }

#pragma warning disable 0649 // assigned by JsonUtility
        [Serializable]
        private sealed class ErrorBody
        {
            public string error;
            public string code;
            public string requestId;
        }
#pragma warning restore 0649

        private readonly struct Reply
        {
            public readonly long Status; // 0: none came
            public readonly string Text;
            public readonly string RetryAfter;

            public Reply(long status, string text, string retryAfter)
            {
                Status = status;
                Text = text;
                RetryAfter = retryAfter;
            }
        }

        private Task PostAsync(string seasonId, object body, CancellationToken cancel)
        {
            return SendAsync("POST", Season(seasonId) + "/scores", JsonUtility.ToJson(body), cancel);
        }

        private async Task<T> OrNullAsync<T>(string path, CancellationToken cancel) where T : class
        {
            try
            {
                return Read<T>(await SendAsync("GET", path, null, cancel));
            }
            catch (LeaderboardException error) when (error.Code == "not_on_board")
            {
                return null;
            }
        }

        // The text of a good answer. No answer, 502, 503 and 504 may pass by themselves: the request is sent again, after
        // as long as Retry-After says. Everything that goes through here is safe to send again. Throws
        // LeaderboardException, and OperationCanceledException once cancelled (a score may be stored then all the same).
        private async Task<string> SendAsync(string method, string path, string body, CancellationToken cancel)
        {
            for (int failures = 1; ; failures++)
            {
                Reply reply = await TryAsync(method, path, body, cancel);
                if (reply.Status >= 200 && reply.Status < 300)
                {
                    return reply.Text;
                }
                bool passing = reply.Status == 0 || (reply.Status >= 502 && reply.Status <= 504);
                if (!passing || failures >= _attempts)
                {
                    throw ErrorOf(reply);
                }
                await PauseAsync(PauseSeconds(reply, failures), cancel);
            }
        }

        private async Task<Reply> TryAsync(string method, string path, string body, CancellationToken cancel)
        {
            cancel.ThrowIfCancellationRequested();
            using (var request = new UnityWebRequest(_baseUrl + path, method))
            {
                request.downloadHandler = new DownloadHandlerBuffer();
                request.timeout = _timeoutSeconds;
                if (body != null)
                {
                    request.uploadHandler = new UploadHandlerRaw(Encoding.UTF8.GetBytes(body));
                    request.SetRequestHeader("Content-Type", "application/json");
                }
                if (_apiKey != null)
                {
                    request.SetRequestHeader("Authorization", "Bearer " + _apiKey);
                }
                // Unity 2022 can't await a request itself. The source is completed in the frame in which the request is.
                var done = new TaskCompletionSource<bool>();
                request.SendWebRequest().completed += _ => done.TrySetResult(true);
                using (cancel.Register(request.Abort))
                {
                    await done.Task;
                }
                cancel.ThrowIfCancellationRequested();
                bool answered = request.result == UnityWebRequest.Result.Success
                    || request.result == UnityWebRequest.Result.ProtocolError;
                return answered
                    ? new Reply(
                        request.responseCode, request.downloadHandler.text, request.GetResponseHeader("Retry-After"))
                    : new Reply(0, request.error, null);
            }
        }

        // Full jitter, where the service says nothing: clients that failed together do not come back together.
        private static double PauseSeconds(Reply reply, int failures)
        {
            if (int.TryParse(reply.RetryAfter, NumberStyles.None, CultureInfo.InvariantCulture, out int told))
            {
                return told;
            }
            double longest = Math.Min(LongestPauseSeconds, FirstPauseSeconds * Math.Pow(2, failures - 1));
            return UnityEngine.Random.value * longest;
        }

        // By frames: Task.Delay needs a timer, which WebGL has not. In real time: a paused game waits no longer.
        private static async Task PauseAsync(double seconds, CancellationToken cancel)
        {
            double end = Time.realtimeSinceStartupAsDouble + seconds;
            while (Time.realtimeSinceStartupAsDouble < end)
            {
                cancel.ThrowIfCancellationRequested();
                await Task.Yield();
            }
        }

        private static LeaderboardException ErrorOf(Reply reply)
        {
            if (reply.Status == 0)
            {
                return new LeaderboardException(0, "no_answer", reply.Text, null);
            }
            ErrorBody told = null;
            try
            {
                told = JsonUtility.FromJson<ErrorBody>(reply.Text);
            }
            catch (ArgumentException)
            {
                // Somebody else's answer, such as a gateway's page.
            }
            return told == null || string.IsNullOrEmpty(told.code)
                ? new LeaderboardException(reply.Status, "not_understood", "HTTP " + reply.Status, null)
                : new LeaderboardException(reply.Status, told.code, told.error, told.requestId);
        }

        private static T Read<T>(string text) where T : class
        {
            T read = null;
            try
            {
                read = JsonUtility.FromJson<T>(text);
            }
            catch (ArgumentException)
            {
                // Told below, as an empty answer is.
            }
            return read ?? throw new LeaderboardException(200, "not_understood", "not an answer of the service", null);
        }

        private static string Given(string name, string value)
        {
            return string.IsNullOrEmpty(value) ? "" : "&" + name + "=" + Uri.EscapeDataString(value);
        }

        private static string Text(DateTimeOffset moment)
        {
            return moment.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", CultureInfo.InvariantCulture);
        }

        // A season called "." or ".." can't be asked for: System.Uri makes another path of it, however it is written.
        private static string Season(string seasonId)
        {
            return "/v1/seasons/" + Uri.EscapeDataString(seasonId);
        }
    }
}
