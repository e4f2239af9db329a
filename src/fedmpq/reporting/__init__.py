"""From the files of finished runs to a report: frames, figures, and the paper's claims checked."""
