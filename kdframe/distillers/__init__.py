import kdframe.distillers.ab  # 2019, which neurons are active
import kdframe.distillers.at  # 2017, where the networks look
import kdframe.distillers.cross_entropy  # the labels
import kdframe.distillers.dkd  # 2022, target class and the others apart
import kdframe.distillers.feature  # several stages' maps
import kdframe.distillers.fitnet  # 2015, one stage's maps
import kdframe.distillers.kd  # 2015, soft labels
import kdframe.distillers.ofd  # 2019, maps before the activation, above a margin
import kdframe.distillers.reviewkd  # 2021, maps fused from deep to shallow
import kdframe.distillers.sp  # 2019, which images are alike
