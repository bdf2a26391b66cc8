import kdframe.distillers.abkd  # 2025, soft labels by a divergence of two exponents
import kdframe.distillers.at  # 2017, where the networks look
import kdframe.distillers.byot  # 2019, early classifiers learn from the last; no teacher
import kdframe.distillers.cross_entropy  # the labels
import kdframe.distillers.dist  # 2022, probabilities up to a shift and a scale
import kdframe.distillers.dkd  # 2022, target class and the others apart
import kdframe.distillers.feature  # several stages' maps
import kdframe.distillers.fitnet  # 2015, one stage's maps
import kdframe.distillers.kd  # 2015, soft labels
import kdframe.distillers.mlkd  # 2023, soft labels, and which images and classes go together
import kdframe.distillers.normkd  # 2023, soft labels, each image at its own temperature
import kdframe.distillers.rld  # 2024, soft labels less what the teacher gets wrong
import kdframe.distillers.sdd  # 2024, soft labels of the image's parts
import kdframe.distillers.sp  # 2019, which images are alike
import kdframe.distillers.ttm  # 2024, soft labels by a student that isn't softened
import kdframe.distillers.uskd  # 2023, the student's own soft labels; no teacher
import kdframe.distillers.wkd_l  # 2024, probabilities moved between like classes
import kdframe.distillers.wttm  # 2024, ttm, the more where the teacher is unsure
